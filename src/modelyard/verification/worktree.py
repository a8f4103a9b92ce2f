"""Whether the user's own copy of a packed module has moved on since it was packed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelyard.bundle.layout import Bundle

_FOLDER = "code"


def moved_on(bundle: Bundle, work: Path) -> tuple[str, ...]:
    """One note for each packed module whose file in the working tree around `work` differs from the packed one.

    What is verified and served is the packed copy; an edit elsewhere changes nothing until the model is packed again.
    """
    notes = []
    for module, packed in sorted(bundle.manifest.code.modules.items()):
        place = Path(packed).relative_to(_FOLDER)
        own = next((root / place for root in _roots(work) if (root / place).is_file()), None)
        if own is not None and own.read_bytes() != (bundle.path / packed).read_bytes():
            notes.append(
                f"module {module} was edited since it was packed: {place} in your folder differs from {packed} in the "
                "bundle; the packed copy is what was verified, so pack again if the edit is meant to count"
            )
    return tuple(notes)


def _roots(work: Path) -> Iterator[Path]:
    """Folders that modules may be imported from: here, the repository's top, and ``src`` in both."""
    top = next((folder for folder in (work, *work.parents) if (folder / ".git").exists()), work)
    for root in dict.fromkeys((work, top)):
        yield root
        yield root / "src"
