"""OpenTelemetry traces of calls, when the usual OTEL variables ask for them; nothing of it is loaded otherwise.

Spans are made after the answer, from times that were taken anyway. They leave in the exporter's own thread through a
bounded queue: a collector that is slow or dead loses spans, and nothing else.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelyard import __version__
from modelyard.errors import InvalidRequest

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

CLOSE_SECONDS = 2.0
"""How long the end of the process waits for a collector."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What a call's spans are made from. `received_ns` is nanoseconds since 1970, the durations are nanoseconds.

    `trace` is the caller's ``traceparent``; `rpc` says that the call came over gRPC, `route` names its method or path.
    """

    route: str
    status: int
    prediction_id: str
    received_ns: int
    decode_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    encode_ns: int = 0
    total_ns: int = 0
    deployment: str = ""
    model: str = ""
    version: int = 0
    rows: int = 0
    error: str = ""
    trace: str | None = None
    rpc: bool = False


def from_environment(environment: Mapping[str, str] = os.environ) -> Tracer | None:
    """The tracer that the OTEL variables ask for; None when they ask for none. Call it after the last fork.

    It is asked for by ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` or
    ``OTEL_TRACES_EXPORTER=otlp``, unless ``OTEL_SDK_DISABLED`` is true or ``OTEL_TRACES_EXPORTER`` is ``none``.

    Raises:
        InvalidRequest: tracing is asked for and its packages are not installed, or with another exporter than ``otlp``.

    >>> from_environment({}) is None
    True
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    endpoint = any(
        environment.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none"
    if disabled or not (exporter or endpoint):
        return None
    if exporter not in ("", "otlp"):
        raise InvalidRequest(f"OTEL_TRACES_EXPORTER is {exporter!r}; only otlp (over HTTP) and none are possible")
    try:
        return Tracer(environment.get("OTEL_SERVICE_NAME", "modelyard"))
    except ImportError:
        raise InvalidRequest("the OTEL variables ask for traces; install modelyard[otel], or unset them") from None


class Tracer:
    """Makes spans of calls and exports them. Used on one thread."""

    def __init__(self, service: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": service, "service.version": __version__})
        self._api: Any = trace
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("modelyard.serving", __version__)

    def record(self, call: TraceFacts) -> str | None:
        """Make the spans of a call that is over; the ``traceparent`` of its span, for the answer. Never raises.

        The sampler of the environment decides, by default as the caller did.
        """
        api = self._api
        context = None
        parent = self._parent(call.trace)
        if parent is not None:
            context = api.set_span_in_context(api.NonRecordingSpan(parent))
        span = self._tracer.start_span(
            f"{'' if call.rpc else 'POST '}{call.route}",
            context,
            api.SpanKind.SERVER,
            _attributes(call),
            start_time=call.received_ns,
        )
        if span.is_recording():
            if call.status >= 500:
                span.set_status(api.StatusCode.ERROR, call.error)
            self._children(api.set_span_in_context(span), call)
        span.end(call.received_ns + call.total_ns)
        return _traceparent(span.get_span_context())

    def close(self) -> None:
        """Export what is left, if the collector takes it within `CLOSE_SECONDS`; then it is dropped."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)

    def _parent(self, trace: str | None) -> SpanContext | None:
        found = _TRACEPARENT.fullmatch(trace) if trace else None
        if found is None:
            return None
        flags = self._api.TraceFlags(int(found[3], 16))
        parent = self._api.SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags)
        return parent if parent.is_valid else None

    def _children(self, context: Any, call: TraceFacts) -> None:
        at = call.received_ns
        steps = (
            ("queue", call.queue_ns),
            ("decode", call.decode_ns),
            ("compute", call.compute_ns),
            ("encode", call.encode_ns),
        )
        for name, ns in steps:
            if ns:
                self._tracer.start_span(name, context, start_time=at).end(at + ns)
                at += ns


def _attributes(call: TraceFacts) -> dict[str, str | int]:
    named: dict[str, str | int] = (
        {"rpc.system": "grpc", "rpc.method": call.route}
        if call.rpc
        else {"http.request.method": "POST", "http.route": call.route, "http.response.status_code": call.status}
    )
    named |= {
        "modelyard.prediction_id": call.prediction_id,
        "modelyard.deployment": call.deployment,
        "modelyard.model": call.model,
        "modelyard.version": call.version,
        "modelyard.rows": call.rows,
        "error.type": call.error,
    }
    return {name: value for name, value in named.items() if value not in ("", 0)}


def _traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
