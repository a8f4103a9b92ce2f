"""Whatever form and compression a call comes in, its record shows the same rows and gives the same numbers again."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from backports import zstd

import compiled_bundles
from modelyard.bundle.layout import Bundle
from modelyard.client import Client
from modelyard.protocol.messages import SERVICE, message
from modelyard.records.log import read
from modelyard.records.query import RecordDatabase
from modelyard.records.replay import Found, replay
from modelyard.runtime.onnx import OnnxRuntime
from serving_process import PATIENCE, ServingProcess, serving, until

ARROW = "application/vnd.apache.arrow.stream"
TABLE = pd.DataFrame(
    {"x0": [0.25, np.nan, 1.5], "x1": [1.0, 2.0, -3.0], "x2": [0.5, 0.0, 0.125], "carrier": ["UA", "AA", "DL"]}
)
ROWS = [{**row, "x0": None if row["x0"] != row["x0"] else row["x0"]} for row in TABLE.to_dict("records")]
PLAIN = json.dumps({"rows": ROWS}).encode()
WHOLE = [{"name": "predict"}, {"name": "predict_proba"}]
CLASSES = [{"name": "predict"}, {"name": "predict_proba", "parameters": {"classification": 2}}]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return compiled_bundles.write_compiled(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    named = ("--bundle", bundle.path, "--name", "live", "--model", "toy", "--version", 3)
    with serving(tmp_path_factory.mktemp("server"), *named, "--workers", 1, "--grpc-port", 0) as server:
        server.wait_ready()
        yield server


def tensors(outputs: Any = WHOLE, **parameters: Any) -> bytes:
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [3], "data": [row[name] for row in ROWS]}
        for name in ("x0", "x1", "x2")
    ]
    inputs.append({"name": "carrier", "datatype": "BYTES", "shape": [3], "data": TABLE["carrier"].tolist()})
    return json.dumps({"inputs": inputs, "outputs": outputs, "parameters": parameters}).encode()


def binary(outputs: Any = WHOLE) -> tuple[bytes, dict[str, str]]:
    document, tail = json.loads(tensors(outputs, binary_data_output=True)), b""
    for tensor in document["inputs"]:
        raw = raw_of(tensor["name"])
        tail += raw
        tensor["parameters"] = {"binary_data_size": len(raw)}
        del tensor["data"]
    head = json.dumps(document).encode()
    return head + tail, {"inference-header-content-length": str(len(head))}


def raw_of(name: str) -> bytes:
    if name == "carrier":
        return b"".join(len(text).to_bytes(4, "little") + text.encode() for text in TABLE[name])
    return TABLE[name].to_numpy().tobytes()


def stream(compression: str | None = None) -> bytes:
    table, sink = pa.Table.from_pandas(TABLE, preserve_index=False), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def asked(*, raw: bool, classes: bool = False) -> Any:
    request = message("ModelInferRequest")(model_name="live")
    for name in TABLE:
        texts = name == "carrier"
        tensor = request.inputs.add(name=name, datatype="BYTES" if texts else "FP64", shape=[3])
        if raw:
            request.raw_input_contents.append(raw_of(name))
        elif texts:
            tensor.contents.bytes_contents.extend(text.encode() for text in TABLE[name])
        else:
            tensor.contents.fp64_contents.extend(TABLE[name])
    if classes:
        request.outputs.add(name="predict")
        request.outputs.add(name="predict_proba").parameters["classification"].int64_param = 1
    return request


PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}
SENT: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "rows": ("/predict/live", PLAIN, {}),
    "tensors": ("/v2/models/live/infer", tensors(), {}),
    "binary tensors": ("/v2/models/live/infer", *binary()),
    "classes": ("/v2/models/live/infer", tensors(CLASSES), {}),
    "classes as bytes": ("/v2/models/live/infer", *binary(CLASSES)),
    "CSV": ("/invocations", TABLE.to_csv(index=False).encode(), {"content-type": "text/csv"}),
    "records": ("/invocations", json.dumps({"dataframe_records": ROWS}).encode(), {}),
    "Arrow": ("/predict/live", stream(), {"content-type": ARROW}),
    "Arrow, packed within": ("/v2/models/live/infer", stream("zstd"), {"content-type": ARROW}),
}


def over_http(server: ServingProcess, way: str, encoding: str) -> None:
    path, body, headers = SENT[way]
    if encoding:
        body, headers = PACKED[encoding](body), {**headers, "content-encoding": encoding}
    reply = server.ask("POST", path, body, {**headers, "accept-encoding": encoding or "identity"})
    assert reply.status == 200, reply.body


def over_grpc(server: ServingProcess, compression: grpc.Compression, request: Any, **metadata: str) -> None:
    address = json.loads((server.log.parent / "announce.json").read_bytes())["grpc"].rpartition("//")[2]
    with grpc.insecure_channel(address, compression=compression) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=message("ModelInferResponse").FromString,
        )
        told = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
        call(request, timeout=PATIENCE, wait_for_ready=True, metadata=told)


def ask_in_all_ways(server: ServingProcess) -> list[str]:
    """One call after another, and in which way each was."""
    ways = []
    for way in SENT:
        for encoding in ("", *PACKED):
            over_http(server, way, encoding)
            ways.append(f"{way} {encoding}")
    requests = {"raw": asked(raw=True), "typed": asked(raw=False), "classes": asked(raw=True, classes=True)}
    for way, request in requests.items():
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            over_grpc(server, compression, request)
            ways.append(f"gRPC, {way}, {compression.name}")
    return ways


def test_every_form_is_shown_and_replayed_alike(server: ServingProcess, bundle: Bundle) -> None:
    ways = ask_in_all_ways(server)
    folder = server.log.parent / "home" / "records"
    records = until(lambda: len(found := list(read(folder))) >= len(ways) and found, "the records")
    assert {record.form for record in records} == {"rows", "oip", "invocations", "arrow", "grpc"}

    runtime = OnnxRuntime(compiled_bundles.graph(), compiled_bundles.form(), compiled_bundles.schema())
    for way, record in zip(ways, records, strict=True):
        again = replay(Found(record, None), bundle.manifest, runtime)
        assert (again.verdict, len(again.rows)) == ("same", 3), (way, again)

    with RecordDatabase(folder) as database:
        shown = database.query("SELECT request_id, x0, x1, x2, carrier, predict FROM live ORDER BY row").to_pylist()
    rows: dict[str, list[Any]] = {}
    for row in shown:
        gone = row["x0"] is None or row["x0"] != row["x0"]
        rows.setdefault(row.pop("request_id"), []).append({**row, "x0": None if gone else row["x0"]})
    expected = [{**row, "predict": label} for row, label in zip(ROWS, ("late", "late", "on time"), strict=True)]
    for way, record in zip(ways, records, strict=True):
        assert rows[record.prediction_id] == expected, way


def test_a_call_says_which_moment_it_is_about(server: ServingProcess) -> None:
    april, folder = datetime(2013, 4, 1, 7, 30, tzinfo=UTC), server.log.parent / "home" / "records"
    before = len(list(read(folder)))
    over_http(server, "rows", "")
    for told in ("2013-04-01T03:30:00-04:00", str(int(april.timestamp() * 1000))):
        reply = server.ask("POST", "/predict/live", PLAIN, {"X-Modelyard-Event-Time": told})
        assert reply.status == 200, reply.body
    over_grpc(server, grpc.Compression.NoCompression, asked(raw=True), x_modelyard_event_time="2013-04-01T07:30:00Z")
    with Client(server.url) as client:
        client.predict("live", TABLE, event_time=april)
    expected = int(april.timestamp()) * 10**9
    moments = until(lambda: len(found := list(read(folder))[before:]) == 5 and found, "the records")
    assert [record.event_ns for record in moments] == [0, expected, expected, expected, expected]


@pytest.mark.parametrize("told", ["2013-04-01T07:30:00", "yesterday", "-1", "1960-01-01T00:00:00Z", "9" * 19])
def test_a_moment_that_cannot_be_is_refused(server: ServingProcess, told: str) -> None:
    reply = server.ask("POST", "/predict/live", PLAIN, {"X-Modelyard-Event-Time": told})
    assert reply.status == 400
    assert "x-modelyard-event-time: expected a date and time with its offset from UTC" in reply.json["error"]
    with pytest.raises(grpc.RpcError) as caught:
        over_grpc(server, grpc.Compression.NoCompression, asked(raw=True), x_modelyard_event_time=told)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[union-attr]
