"""The peers: other ways to serve the same pipeline, each in an environment of its own.

Beside this file are, for each of them, its server as its documentation tells users to write one, which runs in that
environment, and its requirements.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.forms import (
    HAND_WRITTEN,
    Form,
    mlserver_body,
    read_list,
    read_pairs,
    read_tensor,
    records_body,
    rows_body,
    triton_body,
)
from benchmarks.serving.load import cache_folder
from benchmarks.serving.processes import NotStarted, free_port
from benchmarks.serving.servers import WORKERS, Place, Server

HERE = Path(__file__).parent
INSTALL_SECONDS = 900
BASELINE = "fastapi"


@dataclass(frozen=True)
class Peer:
    """A server in an environment made from the list `requirements` beside this file.

    `command` gives program and arguments; a program of that environment goes before one of the machine.
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
            inside = programs / program
            return [str(inside) if inside.exists() else program, *arguments]

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


def _litserve(place: Place) -> Sequence[str]:
    return ["python", str(HERE / "on_litserve.py")]


def _mlserver(place: Place) -> Sequence[str]:
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": place.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": WORKERS,
    }
    uri = {"uri": str(place.model.file)}
    model = {"name": "bench", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": uri}
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return ["mlserver", "start", str(place.folder)]


def _bentoml(place: Place) -> Sequence[str]:
    options = ["--host", "127.0.0.1", "--port", str(place.port), "--working-dir", str(HERE)]
    return ["bentoml", "serve", "on_bentoml:Predictor", *options]


def _bentoml_home(place: Place) -> Mapping[str, str]:
    return {"BENTOML_HOME": str(place.folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}


def _ray(place: Place) -> Sequence[str]:
    return ["python", str(HERE / "on_ray.py")]


def _mlflow(place: Place) -> Sequence[str]:
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(place.port), "--workers", str(WORKERS)]
    serve = ["mlflow", "models", "serve", "--model-uri", "saved", *options]
    return ["sh", "-c", shlex.join(["python", str(HERE / "for_mlflow.py")]) + " && exec " + shlex.join(serve)]


def _pytriton(place: Place) -> Sequence[str]:
    return ["python", str(HERE / "on_pytriton.py")]


def _pytriton_home(place: Place) -> Mapping[str, str]:
    # Triton's Python processes take the first libpython that they find, which has to fit its standard library.
    library = (environment("pytriton") / "bin" / "python").resolve().parents[1] / "lib"
    return {
        "GRPC_PORT": str(free_port()),
        "PYTRITON_HOME": str(place.folder),  # paths of its sockets may have 107 bytes
        "LD_LIBRARY_PATH": str(library),
    }


PEERS = [
    Peer(BASELINE, "fastapi", HAND_WRITTEN, _fastapi),
    Peer("fastapi async", "fastapi", HAND_WRITTEN, _fastapi, lambda place: {"INSIDE": "1"}),
    Peer("litserve", "litserve", HAND_WRITTEN, _litserve),
    Peer("mlserver", "mlserver", Form("/v2/models/bench/infer", mlserver_body, read_tensor), _mlserver),
    Peer("bentoml", "bentoml", Form("/predict", rows_body, read_list), _bentoml, _bentoml_home),
    Peer("ray serve", "ray", HAND_WRITTEN, _ray, lambda place: {"RAY_USAGE_STATS_ENABLED": "0"}),
    Peer(
        "mlflow",
        "mlflow",
        Form("/invocations", records_body, read_pairs),
        _mlflow,
        lambda place: {"MLFLOW_DISABLE_TELEMETRY": "true"},
    ),
    Peer("pytriton", "pytriton", Form("/v2/models/bench/infer", triton_body, read_tensor), _pytriton, _pytriton_home),
]
