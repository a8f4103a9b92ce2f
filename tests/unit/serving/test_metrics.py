"""Counts as Prometheus text: read back by Prometheus' own parser."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from modelyard.domain.desired import Deployment
from modelyard.domain.records import Label
from modelyard.serving.actions import ACTIONS, Services
from modelyard.serving.boards import Board, Boards, Merged, VersionFacts, combine, publish, read_all
from modelyard.serving.meters import TIME_BOUNDS, Meters
from modelyard.serving.metrics import exposition
from modelyard.serving.plane import DataPlane
from modelyard.serving.routes import find
from modelyard.serving.served import ServedVersion
from modelyard.serving.status import DeploymentStatus, PlaneStatus, VersionStatus


def _board(worker: int, calls: int) -> Board:
    meters = Meters()
    meter = meters.of("flights", "delay", 3, "digest")
    for call in range(calls):
        taken = TIME_BOUNDS[call]
        meter.answered(
            2, 1_000, 2_000, 30_000, 4_000, taken, bytes_in=10, bytes_out=20, prediction_id=f"{worker}-{call}"
        )
        meter.computed(2, 30_000)
    meter.refused("overload", 5)
    meter.in_flight = 1
    meters.nowhere.refused("invalid")
    version = VersionStatus("delay", 3, "digest", "READY")
    shown = DeploymentStatus("flights", "delay", 3, "digest", "READY", "", "onnx", version)
    facts = VersionFacts(deployment="flights", model="delay", version=3, digest="digest", memory_bytes=1000)
    return Board(
        worker=worker,
        pid=100 + worker,
        life=str(worker),
        started=0.0,
        written=1.0,
        status=PlaneStatus(True, "", 1, (shown,)),
        meters=meters.snapshots(),
        versions=(facts,),
        connections=4,
        records_written=calls,
    )


@pytest.fixture
def merged(tmp_path: Path) -> Merged:
    publish(tmp_path, _board(0, 3))
    publish(tmp_path, _board(1, 4))
    return combine(read_all(tmp_path), {100, 101}, 1.0)


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_the_text_tells_the_sums_over_all_workers(merged: Merged, accept: str) -> None:
    text, content_type = exposition(merged, accept)
    read = read_openmetrics if accept else read_prometheus
    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in read(text.decode())
        for sample in family.samples
    }
    of = (("deployment", "flights"), ("model", "delay"))
    version = (*of, ("version", "3"))
    assert samples["modelyard_requests_total", *version] == 7
    assert samples["modelyard_rows_total", *version] == 14
    assert samples["modelyard_requests_in_flight", *version] == 2
    assert samples["modelyard_requests_refused_total", *of, ("reason", "overload"), ("version", "3")] == 2
    assert samples["modelyard_request_bytes_total", *version] == 70
    assert samples["modelyard_batch_rows_count", *version] == 7
    assert samples["modelyard_request_compute_seconds_sum", *version] == pytest.approx(7 * 30e-6)
    assert samples["modelyard_version_memory_bytes", *version] == 2000
    assert samples["modelyard_version_ready", *version] == 1
    assert (samples["modelyard_ready",], samples["modelyard_workers",]) == (1, 2)
    assert (samples["modelyard_connections",], samples["modelyard_records_written_total",]) == (8, 7)
    nowhere = (("deployment", ""), ("model", ""), ("reason", "invalid"), ("version", ""))
    assert samples["modelyard_requests_refused_total", *nowhere] == 2


def test_the_server_answers_with_it() -> None:
    target = find("/metrics")
    assert target is not None
    reply = ACTIONS[target.action](Services(DataPlane(_open_nothing), _NoLabels(), "0"), target, b"")
    assert reply.content_type.startswith(b"text/plain")
    assert "\nmodelyard_workers 0\n" in reply.body.decode()


def _open_nothing(deployment: Deployment) -> ServedVersion:
    raise NotImplementedError


class _NoLabels:
    def append_many(self, labels: Iterable[Label]) -> int:
        raise NotImplementedError


def test_a_class_of_durations_has_a_call_as_its_example(merged: Merged) -> None:
    text, _ = exposition(merged, "application/openmetrics-text")
    families = {family.name: family for family in read_openmetrics(text.decode())}
    told = {
        float(sample.labels["le"]): (sample.exemplar.labels, sample.exemplar.value)
        for sample in families["modelyard_request_duration_seconds"].samples
        if sample.exemplar
    }
    assert told == {
        edge / 1e9: ({"prediction_id": f"1-{call}"}, pytest.approx(edge / 1e9))
        for call, edge in enumerate(TIME_BOUNDS[:4])
    }
    assert not any(sample.exemplar for sample in families["modelyard_request_queue_seconds"].samples)
    assert "prediction_id" not in exposition(merged)[0].decode()


def test_any_name_is_told_as_it_is() -> None:
    meters, name = Meters(), 'a"b\\c\nd'
    meters.of(name, "delay", 1, "").answered(1, 1, 1, 1, 1, 1)
    board = msgspec.structs.replace(_board(0, 1), meters=meters.snapshots())
    text, _ = exposition(combine(Boards(workers=(board,)), {100}, 1.0), "application/openmetrics-text")
    families = {family.name: family for family in read_openmetrics(text.decode())}
    told = [one.labels["deployment"] for one in families["modelyard_requests"].samples]
    assert sorted(told) == ["", name]


def test_classes_are_cumulative_and_in_seconds(merged: Merged) -> None:
    text, _ = exposition(merged)
    (family,) = [one for one in read_prometheus(text.decode()) if one.name == "modelyard_request_duration_seconds"]
    counts = {
        float(sample.labels["le"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket") and sample.labels["deployment"]
    }
    assert [counts[edge] for edge in (10e-6, 20e-6, 50e-6, 100e-6, 200e-6, float("inf"))] == [2, 4, 6, 7, 7, 7]
