"""Secrets in code: found before it is copied anywhere."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Secret:
    """What looks like a secret: its kind and the line it is on. Never the secret itself."""

    kind: str
    line: int


def scan(text: bytes, suffix: str = ".py") -> tuple[Secret, ...]:
    r"""What detect-secrets finds in `text`, by line; nothing is asked over the network.

    A line that ends in ``# pragma: allowlist secret`` is passed over.

    >>> scan(b"x = 1\n")
    ()
    """
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings

    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder, default_settings() as settings:
        # The defaults ask the services themselves whether a key is valid; a key must not leave this machine.
        settings.disable_filters("detect_secrets.filters.common.is_ignored_due_to_verification_policies")
        file = Path(folder, f"scanned{suffix}")
        file.write_bytes(text)
        found = {Secret(each.type, each.line_number) for each in scan_file(str(file))}
    return tuple(sorted(found, key=lambda secret: (secret.line, secret.kind)))
