"""Talks to uv, which knows the user's indexes and keeps wheels in its cache. No address that it prints is passed on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from modelyard.bundle.memo import Memo
from modelyard.errors import EnvironmentFailed

LIMIT = 600.0
"""Seconds after which an installation is given up."""

_LOOK_UP_LIMIT = 30.0
_IMPATIENT = {"UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "1"}
_asked_in_vain: set[str] = set()
_WHEELS = Memo("wheel-hashes")
_ADDRESS = re.compile(r"\b[a-z+]+://\S+")
_LEFT_ALONE = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT", "UV_REQUIRE_HASHES"}


def run(
    arguments: Sequence[str], *, given: str = "", seconds: float = LIMIT, settings: Mapping[str, str] | None = None
) -> str:
    """Run uv and return what it printed.

    Raises:
        EnvironmentFailed: with what uv says, without addresses.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _LEFT_ALONE}
    environment |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", **(settings or {})}
    try:
        done = subprocess.run(
            [_binary(), *arguments], input=given, capture_output=True, text=True, timeout=seconds, env=environment
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(f"uv {arguments[0]} did not finish within {seconds:g} seconds") from None
    except OSError as error:
        raise EnvironmentFailed(f"uv cannot be started: {error}") from error
    if done.returncode:
        raise EnvironmentFailed(without_addresses(done.stderr.strip()) or f"uv ended with status {done.returncode}")
    return done.stdout


def without_addresses(text: str) -> str:
    """`text` with every URL replaced.

    >>> without_addresses("no six at https://user:word@example.org/simple/six/ today")
    'no six at <address> today'
    """
    return _ADDRESS.sub("<address>", text)


def _binary() -> str:
    from uv import find_uv_bin

    return os.fsdecode(find_uv_bin())


def make_environment(directory: Path, python: str) -> None:
    """An empty virtual environment at `directory`, for a Python version or that of the interpreter given.

    Raises:
        EnvironmentFailed: there is no such Python on this machine.
    """
    run(["venv", "--quiet", "--no-project", "--no-python-downloads", "--clear", "--python", python, str(directory)])


def install(python: Path, requirements: str, *, offline: bool, hashed: bool, wheels: Path | None = None) -> None:
    """Install exactly these requirements, nothing more, sharing files with uv's cache.

    With `wheels`, the files in that folder are all that there is: no index is asked.

    Raises:
        EnvironmentFailed: with what uv says.
    """
    options = ["--offline"] if offline else []
    options += ["--no-index", "--find-links", str(wheels)] if wheels is not None else []
    options += ["--require-hashes"] if hashed else ["--no-verify-hashes"]
    run(["pip", "install", "--quiet", "--no-deps", *options, "--python", str(python), "-r", "-"], given=requirements)


def wheel_hashes(pins: Iterable[str], *, online: bool = True) -> dict[str, tuple[str, ...]]:
    """SHA-256 digests (hex) of the files that this Python and platform would install, for pins ``name==version``.

    They are asked for once, from uv's cache if possible, and remembered. A pin that no index knows, or an index that
    cannot be reached, gives none; this process does not ask for it again. Unless `online`, only the cache is asked.
    """
    known: dict[str, tuple[str, ...]] = {}
    unknown = []
    for pin in pins:
        remembered = _WHEELS.get(_question(pin))
        if remembered:
            known[pin] = tuple(remembered)
        else:
            unknown.append(pin)
    for offline in (True, False) if online else (True,):
        unknown = [pin for pin in unknown if pin not in _asked_in_vain]
        for pin, digests in _look_up(unknown, offline=offline).items():
            known[pin] = digests
            _WHEELS.put(_question(pin), list(digests))
        unknown = [pin for pin in unknown if pin not in known]
    if online:
        _asked_in_vain.update(unknown)
    return known


def resolution(pins: Iterable[str]) -> str:
    """What the indexes of this machine have of pins ``name==version``, as a ``pylock.toml``; unknown ones are left out.

    Raises:
        EnvironmentFailed: no index can be reached, and uv's cache does not know them.
    """
    left = list(pins)
    while left:
        try:
            return _resolved(left, offline=False)
        except EnvironmentFailed as error:
            named = [pin for pin in left if _names(str(error), pin)]
            if not named:
                raise
            left = [pin for pin in left if pin not in named]
    return ""


def _question(pin: str) -> str:
    return f"{pin} {sys.implementation.cache_tag} {sys.platform} {os.uname().machine}"


def _look_up(pins: Sequence[str], *, offline: bool) -> dict[str, tuple[str, ...]]:
    """Ask for all at once, and without those that uv names as unknown; then give up."""
    left = list(pins)
    while left:
        try:
            return _hashes_in(_resolved(left, offline=offline))
        except EnvironmentFailed as error:
            named = [pin for pin in left if _names(str(error), pin)]
            if not named:
                return {}
            left = [pin for pin in left if pin not in named]
    return {}


def _names(text: str, pin: str) -> bool:
    name = re.escape(pin.split("==", 1)[0])
    return re.search(rf"(?<![\w.-]){name}(?![\w-]|\.\w)", text) is not None


def _resolved(pins: Sequence[str], *, offline: bool) -> str:
    options = ["--offline"] if offline else []
    arguments = ["pip", "compile", "--quiet", "--no-deps", "--no-header", "--format", "pylock.toml", *options]
    asked = [*arguments, "--python", sys.executable, "-"]
    return run(asked, given="\n".join(pins), seconds=_LOOK_UP_LIMIT, settings=_IMPATIENT)


def _hashes_in(document: str) -> dict[str, tuple[str, ...]]:
    """What a ``pylock.toml`` says: the digests of a package's wheels, or of its source archive if it has none."""
    found = {}
    for package in tomllib.loads(document).get("packages", ()):
        files = package.get("wheels") or [package[kind] for kind in ("sdist", "archive") if kind in package]
        digests = sorted(file["hashes"]["sha256"] for file in files if "sha256" in file.get("hashes", {}))
        if digests:
            found[f"{package['name']}=={package['version']}"] = tuple(digests)
    return found
