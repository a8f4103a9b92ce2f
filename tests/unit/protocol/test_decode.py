"""Recorded bodies read again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.records import WireForm
from modelyard.protocol import decode, invocations, oip, rows
from modelyard.protocol.table import Source, TableReader
from wire_samples import MIXED, ROW, answers

FRAME = TableReader(MIXED).records([ROW, {**ROW, "temp": None}])
REQUESTS: dict[WireForm, bytes] = {
    "oip": oip.write_request(FRAME, MIXED),
    "rows": rows.write_request(FRAME, MIXED),
    "invocations": json.dumps({"dataframe_records": [ROW, {**ROW, "temp": None}]}).encode(),
}
SOURCE = Source("flights", 3, "p", 2)
RESPONSES: dict[WireForm, bytes] = {
    "oip": oip.write_response(answers(2), MIXED, name="d", version="3", prediction_id="p"),
    "rows": rows.write_response(answers(2), MIXED, SOURCE),
    "invocations": invocations.write_response({"predict": answers(2)["predict"]}, MIXED, SOURCE),
}
FORMS: list[WireForm] = ["oip", "rows", "invocations"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_described_row_by_row(form: WireForm) -> None:
    first, second = decode.describe(form, REQUESTS[form], RESPONSES[form])
    assert (first["inputs"]["temp"], first["inputs"]["carrier"], second["inputs"]["temp"]) == (21.5, "UA", None)
    assert (first["outputs"]["predict"], second["outputs"]["predict"]) == ("on time", "late")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_the_server_read_it(form: WireForm) -> None:
    assert decode.read_request(form, REQUESTS[form], MIXED).frame["seats"].values.tolist() == [180, 180]
    assert decode.read_answers(form, RESPONSES[form], MIXED)["predict"].tolist() == ["on time", "late"]


@pytest.mark.parametrize("form", FORMS)
def test_a_refused_call_has_inputs_and_no_outputs(form: WireForm) -> None:
    assert [row["outputs"] for row in decode.describe(form, REQUESTS[form], b'{"error": "no"}')] == [{}, {}]


def test_other_forms_of_invocations_are_described() -> None:
    split = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}
    for document, inputs in (
        (split, {"a": 1, "b": 2}),
        ({"inputs": {"a": [1], "b": 2}}, {"a": 1, "b": 2}),
        ({"instances": [[1, 2]]}, {"value": [1, 2]}),
    ):
        [row] = decode.describe("invocations", json.dumps(document).encode(), b"")
        assert row == {"inputs": inputs, "outputs": {}}


@pytest.mark.parametrize("form", FORMS)
@given(request=st.binary(), response=st.binary())
def test_whatever_was_recorded_is_described_or_left_out(form: WireForm, request: bytes, response: bytes) -> None:
    assert decode.describe(form, request, response) == [] or json.loads(request) is not None


def test_matrices_are_described_as_lists() -> None:
    body = json.dumps({"inputs": [{"name": "X", "datatype": "FP64", "shape": [2, 2], "data": [1, 2, 3, 4]}]}).encode()
    assert [row["inputs"] for row in decode.describe("oip", body, b"")] == [{"X": [1, 2]}, {"X": [3, 4]}]
