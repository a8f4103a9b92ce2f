"""Whatever comes over the wire is answered or refused: nothing raises, nothing is a failure of the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wire_samples
from modelyard.errors import ModelyardError
from modelyard.protocol import oip
from modelyard.protocol.forms import FORMS
from modelyard.protocol.media import Media
from modelyard.protocol.table import TableReader
from modelyard.serving.http1 import Connections, Limits
from modelyard.serving.plane import DataPlane
from unit.serving.parts import PATIENCE, Wire, application, connected, deployment, desired, run, served, written

ROW = {"x0": None, "x1": 0.5, "x2": -1, "carrier": "UA"}
READERS = [TableReader(schema) for schema in (wire_samples.MIXED, wire_samples.ARRAY, wire_samples.SERIES)]
VALID: dict[str, list[Any]] = {
    "rows": [{"rows": [wire_samples.ROW], "ids": ["a"], "outputs": ["predict"]}, {"rows": [[1, 2, 3]]}],
    "oip": [
        {
            "id": "7",
            "inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}],
            "outputs": [{"name": "predict", "parameters": {"binary_data": True}}],
            "parameters": {"non_finite": "words"},
        },
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}]},
    ],
    "invocations": [
        {"dataframe_records": [wire_samples.ROW]},
        {"dataframe_split": {"columns": list(wire_samples.ROW), "data": [list(wire_samples.ROW.values())]}},
        {"instances": [[1, 2, 3]]},
        {"inputs": {"X": [[1, 2, 3]]}},
    ],
}
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["FP64", "FP16", "BYTES", "INT8", "X", "base64", 2**63, -1, 1e400])
)
ANY_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def changed(draw: st.DrawFn, value: Any) -> Any:
    """The document with something put in, left out or replaced somewhere within."""
    steps = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not steps or draw(st.integers(0, 4)) == 0:
        return draw(ANY_JSON)
    where, inner = draw(st.sampled_from(steps))
    what = draw(st.sampled_from(["into", "into", "into", "drop", "twice"]))
    if isinstance(value, dict):
        rest = {name: one for name, one in value.items() if name != where}
        return rest if what == "drop" else {**rest, where: changed(draw, inner)}
    before, after = value[:where], value[where + 1 :]
    middle = {"drop": [], "twice": [inner, inner]}.get(what)
    return [*before, *(middle if middle is not None else [changed(draw, inner)]), *after]


@st.composite
def bodies(draw: st.DrawFn, form: str) -> bytes:
    """A valid body with a document changed, then perhaps some of its bytes."""
    body = json.dumps(changed(draw, draw(st.sampled_from(VALID[form])))).encode()
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=4)) + body[at + draw(st.integers(0, 3)) :]
    return body


@pytest.mark.parametrize("form", ["rows", "oip", "invocations"])
@given(data=st.data())
def test_decoders_raise_only_what_is_ours(form: Any, data: st.DataObject) -> None:
    body = data.draw(bodies(form))
    tail = data.draw(st.binary(max_size=24))
    lengths: list[int | None] = [None, len(body)] if form == "oip" else [None]
    for reader in READERS:
        for length in lengths:
            whole = body if length is None else body + tail
            with contextlib.suppress(ModelyardError):
                FORMS[form].read(whole, Media(json_length=length), reader)


def _statuses(data: bytes) -> list[int]:
    async def talk() -> Wire:
        connection, wire = connected(APP, Connections(Limits(body=4096)))
        connection.data_received(data)
        for _ in range(6):
            await asyncio.sleep(0)
        await APP.answering.drained()
        await asyncio.sleep(0)
        connection.connection_lost(None)
        return wire

    return [answer.status for answer in run(talk()).answers()]


PLANE = DataPlane(served)
APP = application(PLANE)


@pytest.fixture(scope="module", autouse=True)
def deployed() -> Iterator[None]:
    PLANE.apply(desired(1, deployment()))
    assert PLANE.settle(PATIENCE)
    yield
    PLANE.close()


PATHS = ("/predict/live", "/v2/models/live/infer", "/invocations/live", "/labels", "/v2/repository/index", "/status")


@given(st.binary(max_size=200))
def test_any_bytes_on_the_wire_are_no_failure(data: bytes) -> None:
    assert all(status < 500 or status == 501 for status in _statuses(data))


@given(st.data())
def test_any_request_on_the_wire_is_answered_and_no_failure(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(sorted(VALID)))
    body = data.draw(bodies(form) | st.just(json.dumps({"rows": [ROW]}).encode()))
    method = data.draw(st.sampled_from(["POST", "POST", "POST", "GET"]))
    headers = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                oip.LENGTH_HEADER: st.sampled_from(["0", "-1", "x", str(len(body)), "9" * 20]),
                "x-request-timeout-ms": st.sampled_from(["nan", "0", "1e9", "60000"]),
                "content-type": st.sampled_from(["text/csv", "application/json", "application/octet-stream", ";"]),
                "traceparent": st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60),
                "expect": st.just("100-continue"),
            },
        )
    )
    statuses = _statuses(written(method, data.draw(st.sampled_from(PATHS)), body, headers))
    assert statuses
    assert all(status < 500 or status == 501 for status in statuses), statuses
