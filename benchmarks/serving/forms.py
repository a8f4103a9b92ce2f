"""Requests in the forms that servers take, and the probabilities in their answers."""

from __future__ import annotations

import http.client
import io
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.serving.models import Row

JSON = {"Content-Type": "application/json"}
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}


@dataclass(frozen=True)
class Body:
    """The body of a request, and the headers that tell what it is."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Form:
    """How one server is asked: where, with what body, and where its answer has the probability of class 1."""

    path: str
    write: Callable[[Sequence[Row]], Body]
    read: Callable[[Answer], Sequence[float]]

    def message(self, rows: Sequence[Row]) -> bytes:
        """A whole HTTP request about these rows."""
        body = self.write(rows)
        return message(self.path, body.content, body.headers)


def message(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    r"""A whole HTTP request.

    >>> message("/predict", b"{}", JSON).splitlines()[0]
    b'POST /predict HTTP/1.1'
    """
    lines = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\n" + body


class _Received:
    """What `http.client` reads an answer from."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.content)


def parse_answer(content: bytes) -> Answer:
    r"""An answer from its bytes, chunked or not.

    >>> parse_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n").document
    []
    """
    response = http.client.HTTPResponse(_Received(content))  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def _json(document: Any) -> Body:
    return Body(json.dumps(document).encode(), JSON)


def rows_body(rows: Sequence[Row]) -> Body:
    """``{"rows": [{...}]}``: what the hand-written servers take."""
    return _json({"rows": rows})


def our_rows(rows: Sequence[Row]) -> Body:
    """The same for ours, asking for probabilities alone, as the others answer."""
    return _json({"rows": rows, "outputs": ["predict_proba"]})


def records_body(rows: Sequence[Row]) -> Body:
    """MLflow's ``dataframe_records``."""
    return _json({"dataframe_records": rows})


def is_text(name: str) -> bool:
    """Whether a column of the mixed table is one of texts."""
    return name.startswith("c")


def tensors(rows: Sequence[Row], *, column_shape: bool = False, not_a_number: bool = False) -> list[dict[str, Any]]:
    """One tensor of the Open Inference Protocol a column; a missing number is null, or the bare word NaN."""
    made = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if not_a_number and not is_text(name):
            values = [math.nan if value is None else value for value in values]
        shape = [len(rows), 1] if column_shape else [len(rows)]
        made.append({"name": name, "shape": shape, "datatype": "BYTES" if is_text(name) else "FP64", "data": values})
    return made


def protocol_body(rows: Sequence[Row]) -> Body:
    """Open Inference Protocol as ours takes it."""
    return _json({"inputs": tensors(rows), "outputs": [{"name": "predict_proba"}]})


def binary_body(rows: Sequence[Row]) -> Body:
    """Open Inference Protocol with the tensors as bytes after the JSON, both ways."""
    inputs, parts = [], []
    for tensor in tensors(rows, not_a_number=True):
        values = tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            part = b"".join(struct.pack("<I", len(text)) + text for text in (value.encode() for value in values))
        else:
            part = np.array(values, dtype="<f8").tobytes()
        inputs.append({**tensor, "parameters": {"binary_data_size": len(part)}})
        parts.append(part)
    head = json.dumps(
        {"inputs": inputs, "outputs": [{"name": "predict_proba", "parameters": {"binary_data": True}}]}
    ).encode()
    return Body(head + b"".join(parts), {**JSON, "Inference-Header-Content-Length": str(len(head))})


def arrow_body(rows: Sequence[Row]) -> Body:
    """The rows as an Arrow stream."""
    types = [(name, pa.string() if is_text(name) else pa.float64()) for name in rows[0]]
    batch = pa.RecordBatch.from_pylist(list(rows), schema=pa.schema(types))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return Body(sink.getvalue().to_pybytes(), ARROW)


def mlserver_body(rows: Sequence[Row]) -> Body:
    """Open Inference Protocol for MLServer's pandas codec."""
    inputs = tensors(rows)
    for tensor in inputs:
        if tensor["datatype"] == "BYTES":
            tensor["parameters"] = {"content_type": "str"}
    return _json({"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict_proba"}]})


def triton_body(rows: Sequence[Row]) -> Body:
    """Open Inference Protocol for Triton: tensors of shape [n, 1]; JSON's null is not taken, the word NaN is."""
    return _json({"inputs": tensors(rows, column_shape=True, not_a_number=True)})


def read_predictions(answer: Answer) -> Sequence[float]:
    """``{"predictions": [...]}``."""
    found: list[float] = answer.document["predictions"]
    return found


def read_list(answer: Answer) -> Sequence[float]:
    """A bare list."""
    found: list[float] = answer.document
    return found


def read_pairs(answer: Answer) -> Sequence[float]:
    """MLflow's ``{"predictions": [[p0, p1], ...]}``."""
    return [pair[1] for pair in answer.document["predictions"]]


def read_tensor(answer: Answer) -> Sequence[float]:
    """The only tensor of an answer of the Open Inference Protocol, of one or two columns."""
    tensor = answer.document["outputs"][0]
    width = tensor["shape"][-1]
    return list(tensor["data"][width - 1 :: width])


def read_binary(answer: Answer) -> Sequence[float]:
    """The same, as bytes after the JSON."""
    values = np.frombuffer(answer.body, "<f8", offset=int(answer.headers["inference-header-content-length"]))
    return [float(one) for one in values[1::2]]


def read_rows(answer: Answer) -> Sequence[float]:
    """Ours, in its plain form."""
    return [row["predict_proba"]["1"] for row in answer.document["rows"]]


def read_arrow(answer: Answer) -> Sequence[float]:
    """Ours, as an Arrow stream."""
    table = pa.ipc.open_stream(answer.body).read_all()
    return [pair[1] for pair in table.column("predict_proba").to_pylist()]


def nothing(answer: Answer) -> Sequence[float]:
    """A fixed reply says nothing."""
    return ()


OURS = Form("/predict/bench", our_rows, read_rows)
PROTOCOL = Form("/v2/models/bench/infer", protocol_body, read_tensor)
BINARY = Form("/v2/models/bench/infer", binary_body, read_binary)
ARROW_STREAM = Form("/predict/bench", arrow_body, read_arrow)
HAND_WRITTEN = Form("/predict", rows_body, read_predictions)
FIXED = Form("/predict/bench", our_rows, nothing)
