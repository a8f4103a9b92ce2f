"""The merged counts as Prometheus and OpenMetrics text: base units, histograms that add across replicas.

The text is written here and not by a client library: those take a quarter of a second for a hundred versions, and calls
have to be answered meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.exposition import choose_encoder

from modelyard.domain.histogram import Histogram
from modelyard.serving.boards import Merged
from modelyard.serving.meters import ROW_BOUNDS, TIME_BOUNDS, MeterSnapshot

_NS = 1e-9
_LONGEST_EXAMPLE = 128 - len("prediction_id")

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
    ("not_copied", "modelyard_requests_not_copied", "Answered calls that a candidate in the shadow was not asked."),
    ("restarts", "modelyard_model_process_restarts", "How often the model's own process was started again."),
)


_TIME_EDGES = (*(str(float(round(bound * _NS, 9))) for bound in TIME_BOUNDS), "+Inf")
_ROW_EDGES = (*(str(float(bound)) for bound in ROW_BOUNDS), "+Inf")


def exposition(merged: Merged, accept: str = "") -> tuple[bytes, str]:
    """The text that tells all counts, and its content type: OpenMetrics where `accept` (a header) asks for it."""
    _, content_type = choose_encoder(accept)
    page = _Page(content_type.startswith("application/openmetrics-text"))
    _calls(page, merged.told())
    _versions(page, merged)
    _server(page, merged)
    return page.text(), content_type


@dataclass(slots=True)
class _Page:
    """Collects lines. `openmetrics` has exemplars, other names of counters, and an end."""

    openmetrics: bool
    lines: list[str] = field(default_factory=list)

    def text(self) -> bytes:
        return "\n".join([*self.lines, *(["# EOF"] if self.openmetrics else []), ""]).encode()

    def family(self, name: str, kind: str, text: str) -> str:
        """Begin a family; the name of its samples."""
        sample = f"{name}_total" if kind == "counter" else name
        told = name if self.openmetrics else sample
        self.lines += (f"# HELP {told} {text}", f"# TYPE {told} {kind}")
        return sample

    def one(self, name: str, kind: str, text: str, value: float) -> None:
        """A family of one sample without labels."""
        self.lines.append(f"{self.family(name, kind, text)} {value + 0}")

    def each(self, name: str, kind: str, text: str, values: Mapping[str, float]) -> None:
        """A family with one sample for each of the labels."""
        sample = self.family(name, kind, text)
        self.lines += [f"{sample}{{{labels}}} {value + 0}" for labels, value in values.items()]

    def histograms(
        self,
        name: str,
        text: str,
        edges: Sequence[str],
        unit: float,
        found: Mapping[str, Histogram],
        examples: Mapping[str, Mapping[int, tuple[int, str]]],
    ) -> None:
        """A family of histograms, with the upper edges of their classes, and calls as examples of these."""
        self.family(name, "histogram", text)
        for labels, histogram in found.items():
            head, counts = f'{name}_bucket{{{labels},le="', list(accumulate(histogram.counts))
            lines = [f'{head}{edge}"}} {count}' for edge, count in zip(edges, counts, strict=True)]
            for place, (ns, prediction_id) in examples.get(labels, {}).items():
                if self.openmetrics and len(prediction_id) <= _LONGEST_EXAMPLE:
                    lines[place] += f' # {{prediction_id="{_escaped(prediction_id)}"}} {ns * _NS}'
            self.lines += lines
            self.lines += (
                f"{name}_count{{{labels}}} {counts[-1]}",
                f"{name}_sum{{{labels}}} {histogram.sum * unit}",
            )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _labels(deployment: str, model: str, version: int) -> str:
    named = f'deployment="{_escaped(deployment)}",model="{_escaped(model)}"'
    return f'{named},version="{version or ""}"'


def _calls(page: _Page, meters: Sequence[MeterSnapshot]) -> None:
    told = {_labels(*meter.key[:3]): meter for meter in meters}

    def of(value: Callable[[MeterSnapshot], float]) -> dict[str, float]:
        return {labels: value(meter) for labels, meter in told.items()}

    for field_name, name, text in _COUNTS:
        page.each(name, "counter", text, {labels: getattr(meter, field_name) for labels, meter in told.items()})
    refused = {
        f'{labels},reason="{reason}"': count
        for labels, meter in told.items()
        for reason, count in meter.refused.items()
    }
    page.each("modelyard_requests_refused", "counter", "Calls that got no answer.", refused)
    page.each("modelyard_requests_in_flight", "gauge", "Calls that were taken in.", of(lambda meter: meter.in_flight))
    page.each(
        "modelyard_batch_compute_seconds",
        "counter",
        "What the model's computations took, each batch once.",
        of(lambda meter: sum(meter.batch_ns) * _NS),
    )
    examples = {labels: meter.examples for labels, meter in told.items()}
    for field_name, name, text in _TIMES:
        found = {labels: getattr(meter, field_name) for labels, meter in told.items()}
        page.histograms(name, text, _TIME_EDGES, _NS, found, examples if field_name == "total" else {})
    for field_name, name, text in _SIZES:
        found = {labels: getattr(meter, field_name) for labels, meter in told.items()}
        page.histograms(name, text, _ROW_EDGES, 1, found, {})


def _versions(page: _Page, merged: Merged) -> None:
    memory: dict[str, float] = {}
    for version in merged.versions:
        if version.memory_bytes is not None:
            memory[_labels(version.deployment, version.model, version.version)] = version.memory_bytes
    page.each("modelyard_version_memory_bytes", "gauge", "Memory that a version takes.", memory)
    ready: dict[str, float] = {}
    for one in merged.status.deployments:
        ready[_labels(one.name, one.model, one.version)] = one.state == "READY"
        if one.wanted is not None:
            ready.setdefault(_labels(one.name, one.wanted.model, one.wanted.version), one.wanted.state == "READY")
    page.each("modelyard_version_ready", "gauge", "1 when every worker answers with it.", ready)


def _server(page: _Page, merged: Merged) -> None:
    workers = merged.workers
    connections = sum(worker.connections for worker in workers)
    page.one("modelyard_ready", "gauge", "1 when everything that should answer does.", merged.status.ready)
    page.one("modelyard_workers", "gauge", "Workers that live.", len(workers))
    page.one("modelyard_connections", "gauge", "Open connections.", connections)
    page.one("modelyard_connections_accepted", "counter", "Connections taken.", merged.accepted)
    memory = {f'worker="{one.worker}"': one.memory_bytes for one in workers if one.memory_bytes is not None}
    page.each("modelyard_worker_memory_bytes", "gauge", "Resident memory of a worker.", memory)
    spent = {f'worker="{one.worker}"': one.processor_seconds for one in workers}
    page.each("modelyard_worker_processor_seconds", "counter", "Processor time of a worker since it started.", spent)
    page.one("modelyard_worker_restarts", "counter", "Workers started again.", merged.worker_restarts)
    page.one("modelyard_version_loads", "counter", "Versions loaded, once a worker.", merged.loads)
    page.one("modelyard_version_evictions", "counter", "Versions unloaded for memory, once a worker.", merged.evictions)
    if merged.budget_bytes:
        page.one("modelyard_memory_budget_bytes", "gauge", "Memory that may be held.", merged.budget_bytes)
        page.one("modelyard_memory_budgeted_bytes", "gauge", "Memory that is held.", merged.budgeted_bytes)
    page.one("modelyard_records_written", "counter", "Records that were kept.", merged.records_written)
    page.one("modelyard_records_failed", "counter", "Records that could not be kept.", merged.records_failed)
