"""Tables and estimators of all kinds, packed and served by the real server: never another number than the estimator's.

Rows that the estimator answers are answered alike, one at a time and together, over HTTP, in this process and in bulk;
rows on which it raises are refused with a reason. None of the rows was in the sample.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from estimator_answers import Outcome, json_rows, packed_and_asked, same, take
from estimator_zoo import CASES
from modelyard.bundle.layout import Bundle, open_bundle
from modelyard.bundle.native import InProcess
from modelyard.bundle.runtimes import open_runtime
from modelyard.client import Client
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.errors import InvalidInput, RowsRefused
from modelyard.loading import Loaded
from modelyard.runtime.host import load
from modelyard.runtime.interface import Runtime
from modelyard.scoring import score_file

pytestmark = pytest.mark.timeout(900)  # the first test waits until every case is packed

PROCESSES = 2
PATIENCE = 120.0

EVERY_CASE = [case.name for case in CASES]


class Yard:
    """All cases packed side by side, then served by two servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts = contextlib.ExitStack()
        self._packed: dict[str, Future[Outcome]] = {}
        self._urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._parts.__enter__()
        (self.folder / "bundles").mkdir()
        with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
            for name in EVERY_CASE:
                self._packed[name] = pool.submit(packed_and_asked, name, self.bundle(name))
        good = [name for name in EVERY_CASE if self._packed[name].exception() is None]
        started = [(share, *self._start(share, good[share::PROCESSES])) for share in range(PROCESSES)]
        for share, server, announce in started:
            eventually(lambda server=server, announce=announce: announce.exists() or server.poll() is not None)
            url = str(json.loads(announce.read_bytes())["url"])
            self._urls |= dict.fromkeys(good[share::PROCESSES], url)
            eventually(lambda url=url, share=share: settled(url, len(good[share::PROCESSES])))
        return self

    def __exit__(self, *exc: object) -> None:
        self._parts.__exit__(*exc)

    def bundle(self, name: str) -> Path:
        return self.folder / "bundles" / name

    def outcome(self, name: str) -> Outcome:
        """What packing the case gave. Raises what it raised."""
        return self._packed[name].result()

    def url(self, name: str) -> str:
        return self._urls[name]

    def _start(self, share: int, names: list[str]) -> tuple[subprocess.Popen[bytes], Path]:
        wanted = [Deployment(name, name, 1, self.outcome(name).digest, str(self.bundle(name))) for name in names]
        control = self._parts.enter_context(wanting(DesiredState(1, tuple(wanted))))
        place = self.folder / f"server-{share}"
        place.mkdir()
        announce = place / "announce.json"
        command = [sys.executable, "-m", "modelyard.serving", "--desired", control, "--port", "0"]
        command += ["--announce", str(announce), "--home", str(place / "home"), "--python", sys.executable]
        command += ["--workers", "1"]  # two servers are there already
        with (place / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=place, stdout=log, stderr=log)
        self._parts.callback(stop, server)
        return server, announce


@contextlib.contextmanager
def wanting(state: DesiredState) -> Iterator[str]:
    """The address of a control plane that always wants the same."""
    body = msgspec.json.encode(state)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("If-None-Match") == '"1"'
            self.send_response(304 if known else 200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0" if known else str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if known else body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/desired-state"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait(60)


def settled(url: str, deployments: int) -> bool:
    shown = httpx.get(f"{url}/status").json()["deployments"]
    return len(shown) == deployments and all(one["state"] in ("READY", "UNAVAILABLE") for one in shown)


def eventually(condition: Any, seconds: float = PATIENCE) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp("yard")) as made:
        yield made


@pytest.mark.parametrize("name", EVERY_CASE)
def test_rows_over_http_are_answered_as_by_the_estimator(yard: Yard, name: str) -> None:
    outcome = yard.outcome(name)
    rows = json_rows(outcome.fresh)
    with httpx.Client(base_url=yard.url(name), timeout=30) as http:
        ready = http.get(f"/v2/models/{name}/ready")
        assert ready.status_code == 200, ready.text
        for at, (row, expected) in enumerate(zip(rows, outcome.expected, strict=True)):
            check_answer(http.post(f"/predict/{name}", json={"rows": [row]}), expected, f"row {at} {row}")
        together = http.post(f"/predict/{name}", json={"rows": [rows[at] for at in outcome.answered]})
    assert together.status_code == 200, together.text
    for at, got in zip(outcome.answered, together.json()["rows"], strict=True):
        check_same(outcome.expected[at], got, f"row {at} in a batch")


def check_answer(response: httpx.Response, expected: dict[str, Any] | None, where: str) -> None:
    if expected is None:
        assert 400 <= response.status_code < 500, f"{where}: the estimator raises, the server says {response.text}"
        assert response.json()["error"]
        return
    assert response.status_code == 200, f"{where}: the estimator says {expected}, the server {response.text}"
    (got,) = response.json()["rows"]
    check_same(expected, got, where)


def check_same(expected: dict[str, Any] | None, got: dict[str, Any], where: str) -> None:
    assert expected is not None
    got = {name: value for name, value in got.items() if name != "prediction_id"}
    assert got.keys() == expected.keys(), where
    for name, value in expected.items():
        assert same(value, got[name]), f"{where}, {name}: the estimator says {value}, we say {got[name]}"


@pytest.mark.parametrize("name", EVERY_CASE)
def test_the_client_returns_what_the_estimator_returns(yard: Yard, name: str) -> None:
    outcome = yard.outcome(name)
    rows = take(outcome.fresh, outcome.answered)
    with Client(yard.url(name)) as client:
        for method, expected in outcome.returned.items():
            check_returned(expected, getattr(client, method or "predict")(name, rows), method)
        for at in outcome.refused:
            with pytest.raises((InvalidInput, RowsRefused)):
                client.answers(name, take(outcome.fresh, [at]))


@pytest.mark.parametrize("name", EVERY_CASE)
def test_the_bundle_opened_in_this_process_answers_as_the_estimator(yard: Yard, name: str) -> None:
    outcome = yard.outcome(name)
    bundle = open_bundle(yard.bundle(name), expect_digest=outcome.digest)
    runtime = opened(bundle)
    with Loaded(bundle, runtime) as loaded:
        rows = take(outcome.fresh, outcome.answered)
        for method, expected in outcome.returned.items():
            check_returned(expected, getattr(loaded, method or "predict")(rows), method)
        for at in outcome.refused:
            with pytest.raises((InvalidInput, RowsRefused)):
                loaded.answers(take(outcome.fresh, [at]))
        if isinstance(rows, pd.DataFrame):
            check_scored(runtime, bundle, outcome, yard.folder)


def opened(bundle: Bundle) -> Runtime:
    """The compiled form, or the native one without the process of its own that the servers give it."""
    if bundle.manifest.runtime == "onnx":
        return open_runtime(bundle)
    return InProcess(load.estimator(msgspec.to_builtins(bundle.manifest.native), bundle.path), bundle.manifest.schema)


def check_returned(expected: Any, got: Any, method: str) -> None:
    """The same container, kind of dtype and index, and the same values."""
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    assert type(got) is type(expected), method
    if isinstance(expected, dict | list):
        for key in expected if isinstance(expected, dict) else range(len(expected)):
            check_returned(expected[key], got[key], f"{method}, {key}")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(got, expected, rtol=1e-5, atol=1e-6)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(got, expected, rtol=1e-5, atol=1e-6, check_names=False)
    elif expected.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        assert got.dtype == expected.dtype, method
    else:
        np.testing.assert_array_equal(got, expected)
        assert got.dtype.kind == expected.dtype.kind, method


def check_scored(runtime: Runtime, bundle: Bundle, outcome: Outcome, folder: Path) -> None:
    """Rows in files get the same answers."""
    name, rows = bundle.manifest.name, take(outcome.fresh, outcome.answered)
    for ending in ("csv", "parquet"):
        source, target = folder / f"{name}.{ending}", folder / f"{name}.out.parquet"
        if ending == "csv":
            source.write_text(csv_text(rows), encoding="utf-8")
        else:
            rows.to_parquet(source, index=False)
        score_file(runtime.predict, bundle.manifest.schema, source, target, keep=[])
        scored = pyarrow.parquet.read_table(target).to_pylist()
        for at, got in zip(outcome.answered, scored, strict=True):
            check_same(flat(outcome.expected[at]), got, f"row {at} of a {ending} file")


def csv_text(table: pd.DataFrame) -> str:
    """Texts in quotes, so that an empty one is not taken for a missing one, which is nothing at all."""
    lines = [[quoted(name) for name in table.columns]]
    lines += [[quoted(value) for value in row.values()] for row in json_rows(table)]
    return "".join(",".join(line) + "\r\n" for line in lines)


def quoted(value: Any) -> str:
    if value is None:
        return ""
    return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else str(value)


def flat(answer: dict[str, Any] | None) -> dict[str, Any]:
    """An answer as columns of a table: one for each class or place."""
    columns: dict[str, Any] = {}
    for name, value in (answer or {}).items():
        if isinstance(value, dict):
            columns |= {f"{name}_{key}": item for key, item in value.items()}
        elif isinstance(value, list):
            columns |= {f"{name}_{at}": item for at, item in enumerate(value)}
        else:
            columns[name] = value
    return columns
