"""A version with its own process: served beside a compiled one, it refuses, breaks and dies without harm to others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

import compiled_bundles
import modelyard as my
import user_models
from modelyard.bundle.layout import Bundle
from modelyard.bundle.pack import build_bundle
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.errors import ModelFailed, RowsRefused, RuntimeLost
from modelyard.records.log import read
from serving_process import ControlPlane, ServingProcess, serving, until

ROW = {"x0": 1.0, "x1": 0.5, "x2": -1, "carrier": "UA"}
TABLE = pd.DataFrame({"x": [1.0, -2.5, 3.0]}, index=["a", "b", "c"])


@pytest.fixture(scope="module")
def moody(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    into = tmp_path_factory.mktemp("bundles") / "moody"
    return build_bundle(user_models.moody, sample=TABLE, name="moody", into=into, golden_rows=3)


@pytest.fixture(scope="module")
def server(moody: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    toy = compiled_bundles.write_compiled(tmp_path_factory.mktemp("bundles") / "toy")
    deployments = (
        Deployment("moody", "moody", 1, moody.digest, str(moody.path)),
        Deployment("toy", "toy", 1, toy.digest, str(toy.path)),
    )
    control = ControlPlane(DesiredState(1, deployments))
    control.start()
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--desired", control.url, "--python", sys.executable) as server:
        server.wait_ready()
        yield server
    control.stop()


@pytest.fixture
def client(server: ServingProcess) -> Iterator[my.Client]:
    with my.Client(server.url) as client:
        yield client


def host(server: ServingProcess) -> int:
    return int(server.get("/status/moody").json["deployments"][0]["pid"])


def test_the_client_gives_back_the_table_that_the_function_returns(client: my.Client) -> None:
    expected = user_models.moody(TABLE)
    pd.testing.assert_frame_equal(client.predict("moody", TABLE), expected)


def test_a_refusal_of_the_model_is_a_422_with_its_own_words(server: ServingProcess, client: my.Client) -> None:
    reply = server.post("/predict/moody", {"rows": [{"x": 13}]})
    assert reply.status == 422
    assert "13 is an unlucky number" in reply.json["error"]
    with pytest.raises(RowsRefused, match="unlucky"):
        client.predict("moody", TABLE.assign(x=13.0))


def test_a_broken_model_is_a_500_and_answers_the_next_call(server: ServingProcess, client: my.Client) -> None:
    assert server.post("/predict/moody", {"rows": [{"x": 14}]}).status == 500
    with pytest.raises(ModelFailed):
        client.predict("moody", TABLE.assign(x=14.0))
    assert server.post("/predict/moody", {"rows": [{"x": 2}]}).json["rows"][0]["twice"] == 4


def test_a_request_that_kills_its_process_is_a_503_and_the_process_comes_back(
    server: ServingProcess, client: my.Client
) -> None:
    with pytest.raises(RuntimeLost, match="SIGKILL"):
        client.predict("moody", TABLE.assign(x=user_models.POISON))
    until(lambda: server.get("/v2/models/moody/ready").status == 200, "the process is back")
    assert client.predict("moody", TABLE)["twice"].tolist() == [2.0, -5.0, 6.0]


def test_a_killed_process_is_noticed_and_replaced_while_the_other_model_answers(server: ServingProcess) -> None:
    before = host(server)
    os.kill(before, signal.SIGKILL)
    noticed = until(lambda: server.get("/v2/models/moody/ready"), "an answer")
    assert noticed.status in (200, 503)
    assert server.post("/predict/toy", {"rows": [ROW]}).status == 200
    until(lambda: host(server) != before and server.get("/v2/health/ready").status == 200, "another process")


def told(server: ServingProcess) -> dict[tuple[str, str], float]:
    """What the metrics tell of the version, by name and reason."""
    return {
        (sample.name, sample.labels.get("reason", "")): sample.value
        for family in text_string_to_metric_families(server.get("/metrics").body.decode())
        for sample in family.samples
        if sample.labels.get("deployment") == "moody" and "le" not in sample.labels
    }


def test_what_the_metrics_tell_of_it_adds_up(server: ServingProcess) -> None:
    def more(name: str, reason: str = "") -> float:
        return told(server).get((f"modelyard_{name}", reason), 0.0) - before.get((f"modelyard_{name}", reason), 0.0)

    before = told(server)
    with ThreadPoolExecutor(8) as pool:
        bodies = [{"rows": [{"x": 1.0 + number % 3}] * 2} for number in range(80)]
        replies = list(pool.map(lambda body: server.post("/predict/moody", body).status, bodies))
    assert replies == [200] * 80
    until(lambda: more("requests_total") == 80, "all calls are counted")
    assert more("rows_total") == more("batch_rows_sum") == more("request_rows_sum") == 160
    assert 1 <= more("batch_rows_count") <= 80
    assert 0 < more("batch_compute_seconds_total") <= more("request_compute_seconds_sum")
    assert more("request_queue_seconds_count") == more("request_encode_seconds_count") == 80
    for x in (13, 14, user_models.POISON):
        server.post("/predict/moody", {"rows": [{"x": x}]})
    until(lambda: more("model_process_restarts_total") > 0, "the process is started again")
    until(lambda: server.get("/v2/models/moody/ready").status == 200, "the process is back")
    refused = {reason: more("requests_refused_total", reason) for reason in ("invalid", "failed", "unavailable")}
    assert refused == {"invalid": 1, "failed": 1, "unavailable": 1}
    assert more("requests_total") == 80
    assert told(server)["modelyard_requests_in_flight", ""] == 0
    assert told(server)["modelyard_version_memory_bytes", ""] > 10_000_000


def test_its_memory_is_recorded_with_a_call_now_and_then_and_a_compiled_one_has_none(server: ServingProcess) -> None:
    for _ in range(3):
        for name in ("moody", "toy"):
            assert server.post(f"/predict/{name}", {"rows": [{"x": 1.0} if name == "moody" else ROW]}).status == 200
    found = [(record.deployment, record.memory_bytes) for record in read(server.log.parent / "home" / "records")]
    held = [held for name, held in found if name == "moody" and held]
    assert 0 < len(held) < sum(name == "moody" for name, _ in found)
    assert min(held) > 10_000_000
    assert {held for name, held in found if name == "toy"} == {0}


def test_the_model_s_process_ends_with_the_server(moody: Bundle, tmp_path: Path) -> None:
    with serving(tmp_path, "--bundle", moody.path, "--name", "moody", "--python", sys.executable) as server:
        server.wait_ready()
        pid = host(server)
        server.stop(signal.SIGKILL)
        until(lambda: not _runs(pid), "the end of the model's process")


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status
