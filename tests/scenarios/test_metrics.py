"""What a server with two workers tells of the calls that were made to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

import compiled_bundles
from modelyard.cli.app import app
from modelyard.domain.desired import Deployment, DesiredState
from serving_process import PATIENCE, ControlPlane, ServingProcess, serving, until

CONNECTIONS, CALLS = 6, 20
GOOD = json.dumps({"rows": [{"x0": 0.5, "x1": 0, "x2": 0, "carrier": "UA"}] * 2}).encode()
BAD = json.dumps({"rows": [{"x0": "two"}]}).encode()

Samples = dict[tuple[str, str, str], float]
"""By name, version and reason; only what is of the deployment, or of none."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    folder = tmp_path_factory.mktemp("metrics")
    bundle = compiled_bundles.write_compiled(folder / "toy")
    with serving(folder / "server", "--bundle", bundle.path, "--name", "toy", "--workers", "2") as made:
        made.wait_ready()
        until(lambda: len(ready_workers(made)) == 2, "two workers")
        yield made


def ready_workers(server: ServingProcess) -> list[Any]:
    return [worker for worker in server.get("/status").json["workers"] if worker["ready"]]


def samples(server: ServingProcess) -> Samples:
    text = server.get("/metrics").body.decode()
    return {
        (sample.name, sample.labels.get("version", ""), sample.labels.get("reason", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }


def call(server: ServingProcess, bodies: list[tuple[str, bytes]]) -> list[int]:
    """Make calls one after the other on a connection of their own; the status of each."""
    connection, statuses = http.client.HTTPConnection(*server.address, timeout=PATIENCE), []
    try:
        for path, body in bodies:
            connection.request("POST", path, body=body)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
    finally:
        connection.close()
    return statuses


def test_the_counts_of_all_workers_are_those_of_all_calls(server: ServingProcess) -> None:
    before = samples(server)
    calls = [("/predict/toy", GOOD)] * CALLS + [("/predict/toy", BAD), ("/predict/nothing", GOOD)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        statuses = list(pool.map(lambda _: call(server, calls), range(CONNECTIONS)))
    assert [one[:CALLS] for one in statuses] == [[200] * CALLS] * CONNECTIONS
    assert all(status in (400, 404, 422) for one in statuses for status in one[CALLS:])
    sent = float(CONNECTIONS * CALLS)
    expected = {
        ("modelyard_requests_total", "1", ""): sent,
        ("modelyard_rows_total", "1", ""): 2 * sent,
        ("modelyard_request_duration_seconds_count", "1", ""): sent,
        ("modelyard_request_bytes_total", "1", ""): sent * len(GOOD),
        ("modelyard_requests_refused_total", "1", "invalid"): float(CONNECTIONS),
        ("modelyard_requests_refused_total", "", "invalid"): float(CONNECTIONS),
        ("modelyard_records_written_total", "", ""): sent + 2 * CONNECTIONS,
    }

    def told() -> Samples:
        now = samples(server)
        return {name: now.get(name, 0.0) - before.get(name, 0.0) for name in expected}

    until(lambda: told() == expected, f"{expected}, not {told()}")
    now = samples(server)
    assert now["modelyard_requests_in_flight", "1", ""] == 0
    assert (now["modelyard_workers", "", ""], now["modelyard_ready", "", ""]) == (2, 1)
    assert now["modelyard_version_ready", "1", ""] == 1


def test_what_is_told_of_calls_adds_up(server: ServingProcess) -> None:
    call(server, [("/predict/toy", GOOD)] * 5)
    last: Samples = {}

    def settled() -> Samples | None:
        nonlocal last
        before, last = last, {name: value for name, value in samples(server).items() if name[1] == "1"}
        return last if last == before else None

    now = {name: value for (name, _, reason), value in until(settled, "no more news").items() if not reason}
    calls, rows = now["modelyard_requests_total"], now["modelyard_rows_total"]
    parts = ("queue", "decode", "compute", "encode")
    assert [now[f"modelyard_request_{part}_seconds_count"] for part in (*parts, "duration")] == [calls] * 5
    whole = now["modelyard_request_duration_seconds_sum"]
    assert 0 < sum(now[f"modelyard_request_{part}_seconds_sum"] for part in parts) <= whole
    assert (now["modelyard_request_rows_sum"], now["modelyard_request_rows_count"]) == (rows, calls)
    assert (now["modelyard_batch_rows_sum"], now["modelyard_batch_rows_count"]) == (rows, calls)
    computed = now["modelyard_batch_compute_seconds_total"]
    assert computed == pytest.approx(now["modelyard_request_compute_seconds_sum"])
    assert now["modelyard_version_memory_bytes"] > 0


def test_openmetrics_is_told_to_those_who_ask_for_it(server: ServingProcess) -> None:
    asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"}
    reply = server.ask("GET", "/metrics", headers=asked)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")
    names = {family.name for family in read_openmetrics(reply.body.decode())}
    plain = server.ask("GET", "/metrics", headers={"Accept": "text/plain"})
    assert plain.headers["content-type"].startswith("text/plain")
    assert names == {family.name for family in text_string_to_metric_families(plain.body.decode())}


def test_no_counter_goes_back_whichever_worker_is_asked(server: ServingProcess) -> None:
    """Each look is on a connection of its own, and so at whichever worker takes it."""
    last = 0.0
    for _ in range(40):
        call(server, [("/predict/toy", GOOD)])
        seen = samples(server)["modelyard_requests_total", "1", ""]
        assert seen >= last
        last = seen


def test_the_status_page_tells_the_counts_by_version(server: ServingProcess) -> None:
    call(server, [("/predict/toy", GOOD)] * 5)

    def counted() -> Any:
        page = server.get("/status/toy").json
        [version] = page["versions"]
        told = samples(server)["modelyard_requests_total", "1", ""]
        return version if version["requests"] == told >= 5 else None

    version = until(counted, "the same counts as the metrics")
    assert (version["deployment"], version["model"], version["version"]) == ("toy", "toy", 1)
    assert (version["rows"], version["in_flight"], version["restarts"]) == (2 * version["requests"], 0, 0)
    assert 0 < version["p50_ms"] <= version["p99_ms"]
    assert version["batch_rows"] == 2.0


def test_counts_go_on_when_the_only_worker_is_killed_and_when_a_version_is_replaced(tmp_path: Path) -> None:
    bundles = [compiled_bundles.write_compiled(tmp_path / str(number), bias=float(number)) for number in (1, 2)]
    wanted = [Deployment("toy", "toy", number, one.digest, str(one.path)) for number, one in enumerate(bundles, 1)]
    control = ControlPlane(DesiredState(1, (wanted[0],)))
    control.start()
    total = ("modelyard_requests_total", "1", "")
    with serving(tmp_path / "server", "--desired", control.url, "--workers", "1") as server:
        server.wait_ready()
        call(server, [("/predict/toy", GOOD)] * 7)
        assert samples(server)[total] == 7
        [worker] = ready_workers(server)
        os.kill(worker["pid"], signal.SIGKILL)
        until(lambda: [one["pid"] for one in ready_workers(server)] not in ([], [worker["pid"]]), "another worker")
        assert samples(server)[total] == 7
        call(server, [("/predict/toy", GOOD)])
        control.state = DesiredState(2, (wanted[1],))
        until(lambda: server.get("/status/toy").json["deployments"][0]["version"] == 2, "the second version answers")
        call(server, [("/predict/toy", GOOD)])
        now = samples(server)
        assert (now[total], now["modelyard_requests_total", "2", ""]) == (8, 1)
        assert ("modelyard_version_ready", "1", "") not in now
    control.stop()


def run_top(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["top", *words], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_top_shows_what_happens_between_two_looks(server: ServingProcess) -> None:
    stop = threading.Event()

    def call_on() -> None:
        while not stop.is_set():
            call(server, [("/predict/toy", GOOD)] * 5 + [("/predict/toy", BAD)])

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(call_on) for _ in range(2)]
        try:
            code, out, _ = run_top("--url", server.url, "--interval", "1.5", "--json")
            assert code == 0
            shown_code, shown, _ = run_top("--url", server.url, "--interval", "1", "--once")
        finally:
            stop.set()
        assert [future.result() for future in futures] == [None, None]
    seen = json.loads(out)
    [version] = [one for one in seen["versions"] if one["deployment"] == "toy"]
    assert (seen["ready"], version["model"], version["version"]) == (True, "toy", "1")
    assert min(version["requests_per_second"], version["refused_per_second"]) > 0
    assert 0 < version["p50_ms"] <= version["p99_ms"]
    assert (version["batch_rows"], version["state"], list(version["refused"])) == (2.0, "ready", ["invalid"])
    assert all(worker["processor"] >= 0 for worker in seen["workers"])
    assert {worker["pid"] for worker in seen["workers"]} == {worker["pid"] for worker in ready_workers(server)}
    assert sum(worker["requests_per_second"] for worker in seen["workers"]) > 0
    assert shown_code == 0
    assert "toy@1" in shown
    assert "connections" in shown


def test_top_says_that_nothing_answers() -> None:
    code, _, err = run_top("--url", "http://127.0.0.1:9", "--once")
    assert (code, "does not answer" in err) == (7, True)
