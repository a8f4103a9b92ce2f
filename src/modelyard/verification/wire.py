"""The real server, started as production starts it, and asked through plain HTTP."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from modelyard.bundle.layout import Bundle
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.golden import GoldenSet
from modelyard.errors import ModelFailed, ModelyardError, RowsRefused, RuntimeLost, ServiceUnreachable, VersionNotReady
from modelyard.protocol import oip, rows

PATIENCE = 300.0
"""Seconds that the server may take to load the version and prove it."""

_ANSWER_WITHIN = 120.0
_STOP_WITHIN = 20.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class ServerUnderTest:
    """A server process with one version, on a free port of this machine. It ends with the block, or with this thread.

    It starts at once; `wait_ready` says when it answers.
    """

    def __init__(self, bundle: Bundle, folder: Path, python: Path | None) -> None:
        self.name = bundle.manifest.name
        self._schema = bundle.manifest.schema
        self._announced, self._log = folder / "announce.json", folder / "server.log"
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "modelyard.serving", "--port", "0", "--version", "1"]
        command += ["--bundle", str(bundle.path.absolute()), "--name", self.name, "--digest", bundle.digest]
        command += ["--announce", str(self._announced), "--home", str(folder / "home")]
        command += ["--records", str(folder / "records"), *(["--python", str(python)] if python else [])]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "MODELYARD_LOG": "text"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=_end_with_parent,
            )
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait_ready(self, patience: float = PATIENCE) -> None:
        """Wait until the version answers.

        Raises:
            VersionNotReady: it never will, or not in time; the message is the server's own reason.
        """
        deadline = time.monotonic() + patience
        reason = "it never listened"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise VersionNotReady(f"the server ended with status {self._process.returncode}: {self._last_words()}")
            if self._connection is None:
                self._connection = self._connected()
            if self._connection is not None:
                state, reason = self._state()
                if state == "READY":
                    return
                if state == "UNAVAILABLE":
                    raise VersionNotReady(f"the server does not take the version: {reason}")
            time.sleep(0.01)
        raise VersionNotReady(f"the server was not ready after {patience:g} seconds: {reason}")

    def ask_rows(self, frame: Frame) -> Answers:
        """Answers through the plain form for people; infinities come back as NaN, which JSON has no word for.

        Raises:
            RowsRefused, ModelFailed, RuntimeLost: as the status code says.
        """
        body = self._post(f"/predict/{self.name}", rows.write_request(frame, self._schema))
        return rows.read_response(body, self._schema)

    def ask_protocol(self, frame: Frame) -> Answers:
        """Answers through the Open Inference Protocol.

        Raises:
            RowsRefused, ModelFailed, RuntimeLost: as the status code says.
        """
        body = self._post(f"/v2/models/{self.name}/versions/1/infer", oip.write_request(frame, self._schema))
        return oip.read_response(body, self._schema).answers

    def _connected(self) -> http.client.HTTPConnection | None:
        if not self._announced.exists():
            return None
        host, _, port = json.loads(self._announced.read_bytes())["url"].removeprefix("http://").rpartition(":")
        return http.client.HTTPConnection(host, int(port), timeout=_ANSWER_WITHIN)

    def _state(self) -> tuple[str, str]:
        _, body = self._exchange("GET", "/status", None)
        deployments: list[Mapping[str, Any]] = json.loads(body)["deployments"]
        for one in deployments:
            return str(one["state"]), str(one["reason"])
        return "LOADING", "nothing is deployed yet"

    def _post(self, path: str, body: bytes) -> bytes:
        status, answer = self._exchange("POST", path, body)
        if status == 200:
            return answer
        raise _error(status, answer)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = self._connection
        if connection is None:
            raise ServiceUnreachable("the server does not listen yet")
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ServiceUnreachable(f"the server gave no answer to {method} {path}: {error!r}") from error

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _error(status: int, body: bytes) -> ModelyardError:
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace")
    if status == 503:
        return RuntimeLost(f"status {status}: {text}")
    return RowsRefused(f"status {status}: {text}") if status < 500 else ModelFailed(f"status {status}: {text}")


def as_json_has_it(golden: GoldenSet) -> GoldenSet:
    """The golden set as the plain form can tell it: infinite answers become null there, and NaN when read."""

    def told(answers: Answers) -> Answers:
        return {
            name: np.where(np.isinf(array), np.nan, array).astype(array.dtype) if array.dtype.kind == "f" else array
            for name, array in answers.items()
        }

    return GoldenSet(golden.inputs, golden.origins, golden.refused, told(golden.single), told(golden.batch))
