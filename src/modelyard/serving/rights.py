"""Who may load and unload: whoever knows the admin token, and nobody where there is none."""

from __future__ import annotations

import hmac
import logging
import os
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from modelyard.errors import InvalidRequest, NotAuthenticated, PolicyDenied

TOKEN_SETTING, FILE_SETTING = "MODELYARD_ADMIN_TOKEN", "MODELYARD_ADMIN_TOKEN_FILE"
SHORTEST = 16
"""Characters that a token must have at least; 32 from a random source are good."""

_log = logging.getLogger("modelyard.serving")

_HOW = f"start it with --admin-token-file FILE, or set {TOKEN_SETTING}"


class AdminToken:
    """A secret that callers show as ``Authorization: Bearer TOKEN``. Only a digest of it is kept.

    Raises:
        InvalidRequest: it is too short, or has characters that do not fit a header.
    """

    def __init__(self, token: str) -> None:
        if len(token) < SHORTEST or not all("!" <= character <= "~" for character in token):
            raise InvalidRequest(
                f"the admin token must have at least {SHORTEST} visible ASCII characters and no spaces"
            )
        self._digest = sha256(token.encode()).digest()

    def check(self, authorization: str | None) -> None:
        """Let pass who shows the token; takes the same time for any wrong one.

        Raises:
            NotAuthenticated: there is none, or another one.
        """
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated("this needs the server's admin token, as `Authorization: Bearer TOKEN`")
        if not hmac.compare_digest(sha256(token.strip().encode()).digest(), self._digest):
            raise NotAuthenticated("that is not the server's admin token")


def find_token(file: Path | None = None, environment: Mapping[str, str] | None = None) -> AdminToken | None:
    """The token in `file`, or where the environment says; None when nothing says anything.

    Raises:
        InvalidRequest: two places are named, the file cannot be read or others can change it, or it is no good token.
    """
    environment = os.environ if environment is None else environment
    token, named = environment.get(TOKEN_SETTING), environment.get(FILE_SETTING)
    files = {Path(name) for name in (file, named) if name}
    if len(files) + (token is not None) > 1:
        places = f"--admin-token-file, {TOKEN_SETTING} or {FILE_SETTING}"
        raise InvalidRequest(f"the admin token must be given in one place only: {places}")
    for one in files:
        return AdminToken(_read(one))
    return None if token is None else AdminToken(token)


def allow(admin: AdminToken | None, authorization: str | None) -> None:
    """Let pass who may load and unload.

    Raises:
        PolicyDenied: nobody may, as the server has no token.
        NotAuthenticated: the caller has not shown the token.
    """
    if admin is None:
        raise PolicyDenied(f"nobody may load or unload here, as this server has no admin token; {_HOW}")
    admin.check(authorization)


def _read(file: Path) -> str:
    try:
        mode, text = file.stat().st_mode, file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the admin token cannot be read from {file}: {error}") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidRequest(f"{file} holds the admin token and others may change it; use `chmod 600 {file}`")
    if mode & stat.S_IROTH:
        _log.warning("%s holds the admin token and anybody on this machine may read it", file)
    return text
