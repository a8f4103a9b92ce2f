"""Environments of their own for tools that ours is measured beside, kept between runs outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

INSTALL_SECONDS = 900


class NotInstalled(Exception):
    """An environment could not be made; the message says why."""


def cache_folder() -> Path:
    """Where environments of peers and the compiled generator are kept between runs, outside the repository."""
    return Path(os.environ.get("MODELYARD_BENCHMARKS") or Path.home() / ".cache" / "modelyard-benchmarks")


def environment(listed: Path, name: str) -> Path:
    """The environment `name` with a requirements file, made with uv when it is not there or the file has changed.

    Raises:
        NotInstalled: something does not install.
    """
    folder = cache_folder() / "environments" / name
    installed = folder / "installed.txt"
    if installed.exists() and installed.read_bytes() == listed.read_bytes():
        return folder
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NotInstalled("there is no uv to install it with")
    _run([uv, "venv", "--quiet", "--clear", "--python", "3.11", str(folder)])
    _run([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(listed)])
    installed.write_bytes(listed.read_bytes())
    return folder


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"it did not install within {INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        raise NotInstalled("it does not install: " + " ".join(done.stderr.split())[-300:])
