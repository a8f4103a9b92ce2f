"""The peers: other ways to serve the same pipeline, each in an environment of its own.

Beside this file are, for each of them, its server as its documentation tells users to write one, which runs in that
environment, and its requirements.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import environments
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
from benchmarks.serving.processes import NotStarted, free_port
from benchmarks.serving.servers import WORKERS, Place, Server

HERE = Path(__file__).parent
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
    """The environment for a requirements list beside this file.

    Raises:
        NotStarted: something does not install.
    """
    try:
        return environments.environment(HERE / f"{requirements}.txt", requirements)
    except environments.NotInstalled as problem:
        raise NotStarted(str(problem)) from None


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
