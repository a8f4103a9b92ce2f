"""Traces, received by a real OTLP collector on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from modelyard.errors import InvalidRequest
from modelyard.serving.tracing import CLOSE_SECONDS, TraceFacts, Tracer, from_environment

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALL = {
    "route": "/predict/flights",
    "status": 200,
    "prediction_id": "p1",
    "received_ns": 1_000_000,
    "decode_ns": 10,
    "queue_ns": 20,
    "compute_ns": 30,
    "encode_ns": 40,
    "total_ns": 110,
    "deployment": "flights",
    "version": 3,
    "rows": 2,
}


@pytest.fixture
def received() -> list[bytes]:
    return []


@pytest.fixture
def tracer(received: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    made = from_environment()
    assert made is not None
    yield made
    made.close()
    server.shutdown()
    thread.join()
    server.server_close()


def spans(received: list[bytes]) -> dict[str, Any]:
    found = {}
    for body in received:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                found |= {span.name: span for span in scope.spans}
    return found


def test_a_call_is_a_span_with_its_steps_below_the_callers(tracer: Tracer, received: list[bytes]) -> None:
    out = tracer.record(TraceFacts(**CALL, trace=f"00-{TRACE}-{SPAN}-01"))  # type: ignore[arg-type]
    tracer.close()
    found = spans(received)
    call = found["POST /predict/flights"]
    assert out == f"00-{TRACE}-{call.span_id.hex()}-01"
    assert (call.parent_span_id.hex(), call.start_time_unix_nano, call.end_time_unix_nano) == (SPAN, 1000000, 1000110)
    steps = [found[name] for name in ("queue", "decode", "compute", "encode")]
    assert {step.parent_span_id for step in steps} == {call.span_id}
    assert [step.end_time_unix_nano - step.start_time_unix_nano for step in steps] == [20, 10, 30, 40]
    attributes = {one.key: one.value for one in call.attributes}
    assert attributes["modelyard.prediction_id"].string_value == "p1"
    assert attributes["http.response.status_code"].int_value == 200


def test_what_the_caller_does_not_sample_is_not_exported(tracer: Tracer, received: list[bytes]) -> None:
    out = tracer.record(TraceFacts(**CALL, trace=f"00-{TRACE}-{SPAN}-00"))  # type: ignore[arg-type]
    tracer.close()
    assert out is not None
    assert out.startswith(f"00-{TRACE}-")
    assert out.endswith("-00")
    assert spans(received) == {}


def test_an_unreadable_parent_begins_a_new_trace(tracer: Tracer, received: list[bytes]) -> None:
    outs = [tracer.record(TraceFacts(**CALL, trace=trace)) for trace in (None, "nonsense", f"00-{'0' * 32}-{SPAN}-01")]  # type: ignore[arg-type]
    assert len({(out or "").split("-")[1] for out in outs}) == 3


def test_only_what_there_is_can_be_asked_for() -> None:
    assert from_environment({}) is None
    assert from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}) is None
    assert from_environment({"OTEL_TRACES_EXPORTER": "none"}) is None
    with pytest.raises(InvalidRequest, match="zipkin"):
        from_environment({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_a_dead_collector_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    made = from_environment()
    assert made is not None
    assert all(made.record(TraceFacts(**CALL)) for _ in range(3000))  # type: ignore[arg-type]
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 5 * CLOSE_SECONDS
