"""The peers: other ways to serve the same pipeline, each in an environment of its own.

Beside this file are, for each of them, its server as its documentation tells users to write one, which runs in that
environment, and its requirements.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.forms import HAND_WRITTEN, Form
from benchmarks.serving.load import cache_folder
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.servers import WORKERS, Place, Server

HERE = Path(__file__).parent
INSTALL_SECONDS = 900
BASELINE = "fastapi"


@dataclass(frozen=True)
class Peer:
    """A server in an environment made from the list `requirements` beside this file.

    `command` gives program and arguments; the program is one of that environment.
    """

    name: str
    requirements: str
    form: Form
    command: Callable[[Place], Sequence[str]]
    settings: Callable[[Place], Mapping[str, str]] = lambda place: {}

    def server(self) -> Server:
        """The server, its environment made if need be.

        Raises:
            NotStarted: something does not install; the message says what.
        """
        programs = environment(self.requirements) / "bin"

        def command(place: Place) -> Sequence[str]:
            program, *arguments = self.command(place)
            return [str(programs / program), *arguments]

        def settings(place: Place) -> Mapping[str, str]:
            # Some start further programs of theirs by name.
            path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
            return {"PATH": path, **self.settings(place)}

        return Server(self.name, "peer", self.form, command, settings)


def environment(requirements: str) -> Path:
    """The environment for a requirements list, made with uv when it is not there or its list has changed.

    Raises:
        NotStarted: something does not install.
    """
    listed = HERE / f"{requirements}.txt"
    folder = cache_folder() / "environments" / requirements
    installed = folder / "installed.txt"
    if installed.exists() and installed.read_bytes() == listed.read_bytes():
        return folder
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NotStarted("there is no uv to install it with")
    _run([uv, "venv", "--quiet", "--clear", "--python", "3.11", str(folder)])
    _run([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(listed)])
    installed.write_bytes(listed.read_bytes())
    return folder


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotStarted(f"it did not install within {INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        raise NotStarted("it does not install: " + " ".join(done.stderr.split())[-300:])


def _fastapi(place: Place) -> Sequence[str]:
    options = ["--port", str(place.port), "--workers", str(WORKERS), "--no-access-log", "--log-level", "warning"]
    return ["uvicorn", "--app-dir", str(HERE), "on_fastapi:app", *options]


PEERS = [
    Peer(BASELINE, "fastapi", HAND_WRITTEN, _fastapi),
    Peer("fastapi async", "fastapi", HAND_WRITTEN, _fastapi, lambda place: {"INSIDE": "1"}),
]
