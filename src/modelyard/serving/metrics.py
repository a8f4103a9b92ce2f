"""The merged counts as Prometheus and OpenMetrics text: base units, histograms that add across replicas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar

from modelyard.serving.boards import Merged
from modelyard.serving.meters import ROW_BOUNDS, TIME_BOUNDS, Histogram, MeterSnapshot

_NS = 1e-9
_LONGEST_EXAMPLE = 128 - len("prediction_id")
_Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]
_VERSION = ("deployment", "model", "version")

_TIMES = (
    ("total", "modelyard_request_duration_seconds", "From the first byte of a call until its answer was handed over."),
    ("queue", "modelyard_request_queue_seconds", "What a call waited for its turn."),
    ("decode", "modelyard_request_decode_seconds", "Reading a call's body into columns."),
    ("compute", "modelyard_request_compute_seconds", "The model's computation that answered a call."),
    ("encode", "modelyard_request_encode_seconds", "Writing a call's answer."),
)
_SIZES = (
    ("request_rows", "modelyard_request_rows", "Rows of an answered call."),
    ("batches", "modelyard_batch_rows", "Rows that the model computed at once."),
)
_COUNTS = (
    ("answered", "modelyard_requests", "Calls that were answered."),
    ("rows", "modelyard_rows", "Rows that were answered."),
    ("bytes_in", "modelyard_request_bytes", "Bytes of the bodies of answered calls, without compression."),
    ("bytes_out", "modelyard_response_bytes", "Bytes of the bodies of answers, without compression."),
    ("restarts", "modelyard_model_process_restarts", "How often the model's own process was started again."),
)


def exposition(merged: Merged, accept: str = "") -> tuple[bytes, str]:
    """The text that tells all counts, and its content type: OpenMetrics where `accept` (a header) asks for it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(tuple(families(merged))))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


def families(merged: Merged) -> Iterator[Metric]:
    """All metrics, made from the merged counts."""
    yield from _of_calls(merged.told())
    yield from _of_versions(merged)
    yield from _of_the_server(merged)


def _of_calls(meters: Sequence[MeterSnapshot]) -> Iterator[Metric]:
    for field, name, text in _COUNTS:
        counter = CounterMetricFamily(name, text, labels=_VERSION)
        for meter in meters:
            counter.add_metric(_labels(meter), getattr(meter, field))
        yield counter
    refused = CounterMetricFamily(
        "modelyard_requests_refused", "Calls that got no answer.", labels=(*_VERSION, "reason")
    )
    in_flight = GaugeMetricFamily("modelyard_requests_in_flight", "Calls that were taken in.", labels=_VERSION)
    computed = CounterMetricFamily(
        "modelyard_batch_compute_seconds", "What the model's computations took, each batch once.", labels=_VERSION
    )
    for meter in meters:
        for reason, count in meter.refused.items():
            refused.add_metric((*_labels(meter), reason), count)
        in_flight.add_metric(_labels(meter), meter.in_flight)
        computed.add_metric(_labels(meter), sum(meter.batch_ns) * _NS)
    yield from (refused, in_flight, computed)
    for field, name, text in _TIMES:
        yield _histograms(name, text, ((meter, getattr(meter, field)) for meter in meters), TIME_BOUNDS, _NS)
    for field, name, text in _SIZES:
        yield _histograms(name, text, ((meter, getattr(meter, field)) for meter in meters), ROW_BOUNDS, 1)


def _histograms(
    name: str, text: str, found: Iterable[tuple[MeterSnapshot, Histogram]], bounds: Sequence[int], unit: float
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=_VERSION)
    edges = [str(float(round(bound * unit, 9))) for bound in bounds] + ["+Inf"]
    for meter, histogram in found:
        examples = meter.examples if histogram is meter.total else {}
        buckets = [
            _bucket(edge, count, examples.get(place))
            for place, (edge, count) in enumerate(zip(edges, accumulate(histogram.counts), strict=True))
        ]
        family.add_metric(_labels(meter), buckets=buckets, sum_value=histogram.sum * unit)
    return family


def _bucket(edge: str, count: int, example: tuple[int, str] | None) -> _Bucket:
    """A class with a call as its example, which OpenMetrics can tell unless the call's name is too long for it."""
    if example is None or len(example[1]) > _LONGEST_EXAMPLE:
        return edge, float(count)
    return edge, float(count), Exemplar({"prediction_id": example[1]}, example[0] * _NS)


def _of_versions(merged: Merged) -> Iterator[Metric]:
    memory = GaugeMetricFamily("modelyard_version_memory_bytes", "Memory that a version takes.", labels=_VERSION)
    for version in merged.versions:
        if version.memory_bytes is not None:
            memory.add_metric((version.deployment, version.model, str(version.version)), version.memory_bytes)
    ready = GaugeMetricFamily("modelyard_version_ready", "1 when every worker answers with it.", labels=_VERSION)
    for deployment in merged.status.deployments:
        states = {(deployment.model, deployment.version): deployment.state}
        if deployment.wanted is not None:
            states.setdefault((deployment.wanted.model, deployment.wanted.version), deployment.wanted.state)
        for (model, version_number), state in states.items():
            ready.add_metric((deployment.name, model, str(version_number)), float(state == "READY"))
    yield from (memory, ready)


def _of_the_server(merged: Merged) -> Iterator[Metric]:
    yield GaugeMetricFamily("modelyard_ready", "1 when everything that should answer does.", merged.status.ready)
    yield GaugeMetricFamily("modelyard_workers", "Workers that live.", len(merged.workers))
    yield GaugeMetricFamily(
        "modelyard_connections", "Open connections.", sum(worker.connections for worker in merged.workers)
    )
    yield CounterMetricFamily("modelyard_connections_accepted", "Connections taken.", merged.accepted)
    memory = GaugeMetricFamily("modelyard_worker_memory_bytes", "Resident memory of a worker.", labels=("worker",))
    spent = CounterMetricFamily(
        "modelyard_worker_processor_seconds", "Processor time of a worker since it started.", labels=("worker",)
    )
    for worker in merged.workers:
        spent.add_metric((str(worker.worker),), worker.processor_seconds)
        if worker.memory_bytes is not None:
            memory.add_metric((str(worker.worker),), worker.memory_bytes)
    yield from (memory, spent)
    yield CounterMetricFamily("modelyard_worker_restarts", "Workers started again.", merged.worker_restarts)
    yield CounterMetricFamily("modelyard_records_written", "Records that were kept.", merged.records_written)
    yield CounterMetricFamily("modelyard_records_failed", "Records that could not be kept.", merged.records_failed)


def _labels(meter: MeterSnapshot) -> tuple[str, str, str]:
    return meter.deployment, meter.model, str(meter.version) if meter.version else ""


class _Families(Collector):
    """Hands over what was made before."""

    def __init__(self, made: tuple[Metric, ...]) -> None:
        self._made = made

    def collect(self) -> Iterable[Metric]:
        return self._made
