"""The quick readers: what they take is what the patient readers and the checks make of the same body."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wire_samples
from modelyard.domain.checks import check
from modelyard.domain.frame import Frame
from modelyard.domain.schema import Accepts, Column, Kind, Output, Schema
from modelyard.errors import ModelyardError
from modelyard.protocol import oip, rows
from modelyard.protocol.quick import MOST_COLUMNS, QuickReader
from modelyard.protocol.table import Source, TableReader

LIMITS = Schema(
    "dataframe",
    (
        Column("age", Kind.INT8, False, "int8", accepts=Accepts(minimum=0, maximum=120)),
        Column("count", Kind.UINT64, True, "UInt64"),
        Column("share", Kind.FLOAT64, True, "float64", accepts=Accepts(minimum=-0.5, maximum=2.5)),
        Column("carrier", Kind.STRING, True, "object", accepts=Accepts(categories=("UA", "AA", "é"))),
        Column("night", Kind.BOOL, False, "bool"),
        Column("wind", Kind.FLOAT32, False, "float32"),
    ),
    wire_samples.OUTPUTS,
)
PLAIN = replace(LIMITS, columns=tuple(column for column in LIMITS.columns if column.kind is not Kind.FLOAT32))
CODES = replace(LIMITS, columns=(Column("code", Kind.INT32, False, "int32", accepts=Accepts(categories=(1, 2))),))
SCHEMAS = (wire_samples.MIXED, wire_samples.ARRAY, wire_samples.SERIES, LIMITS, PLAIN, CODES)

_NUMBERS = (
    st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, 2, 2**53, 2**53 + 1, 2**24 + 1, 0.5, 120])
)
_TEXTS = st.sampled_from(["UA", "AA", "é", "", "2013-01-01T05:15:00Z"]) | st.text(max_size=3)
_CELLS: dict[Kind, st.SearchStrategy[Any]] = {Kind.STRING: _TEXTS, Kind.DATETIME: _TEXTS, Kind.BOOL: st.booleans()}


@st.composite
def columns_of(draw: st.DrawFn, schema: Schema) -> dict[str, list[Any]]:
    """Cells for every column, most of them of its kind."""
    count = draw(st.integers(1, 3))
    columns = {}
    for column in schema.columns:
        usual = _CELLS.get(column.kind, st.integers(0, 100) if column.kind.is_integer else _NUMBERS)
        cell = st.one_of(usual, usual, usual, st.none(), _NUMBERS, st.booleans())
        if column.shape:
            cell = st.lists(cell, min_size=3, max_size=3)
        columns[column.name] = draw(st.lists(cell, min_size=count, max_size=count))
    return columns


def patiently(schema: Schema, read: Callable[[bytes, TableReader], Any], body: bytes) -> Frame:
    reader = TableReader(schema)
    object.__setattr__(reader, "quick", QuickReader(replace(schema, columns=())))
    frame: Frame = read(body, reader).frame
    check(frame, schema)
    return frame


def agree(schema: Schema, quick: Frame, body: bytes, read: Callable[[bytes, TableReader], Any]) -> None:
    try:
        patient = patiently(schema, read, body)
    except ModelyardError:
        with pytest.raises(ModelyardError):
            check(quick, schema)
        assert not QuickReader(schema).checks
        return
    assert wire_samples.same(patient, quick)
    if quick.scalars is not None:
        assert quick.scalars == patient.row(0).scalars


@pytest.mark.parametrize("schema", SCHEMAS)
@given(data=st.data())
def test_rows_are_the_same_or_are_left_to_the_patient_reader(schema: Schema, data: st.DataObject) -> None:
    columns = data.draw(columns_of(schema))
    if schema.layout == "dataframe":
        listed: list[Any] = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    else:
        listed = next(iter(columns.values()))
    body = json.dumps({"rows": listed}).encode()
    read = QuickReader(schema).rows(body)
    if read is not None:
        agree(schema, read[0], body, rows.read_request)


@pytest.mark.parametrize("schema", SCHEMAS)
@given(data=st.data())
def test_tensors_are_the_same_or_are_left_to_the_patient_reader(schema: Schema, data: st.DataObject) -> None:
    columns = data.draw(columns_of(schema))
    inputs = []
    for column in schema.columns:
        cells = columns[column.name]
        shape = [len(cells), *column.shape] + [1] * data.draw(st.integers(0, 1))
        leaves = [leaf for cell in cells for leaf in cell] if column.shape else cells
        inputs.append({"name": column.name, "datatype": oip.OIP_DATATYPE[column.kind], "shape": shape, "data": leaves})
    body = json.dumps({"inputs": inputs, "id": "7"}).encode()
    read = QuickReader(schema).tensors(body)
    if read is not None:
        agree(schema, read[0], body, oip.read_request)
        assert oip.read_request(body, TableReader(schema)).id == "7"


def test_usual_requests_are_read_quickly_and_need_no_check() -> None:
    row = {"age": 30, "count": None, "share": 1, "carrier": "é", "night": True}
    quick = QuickReader(PLAIN)
    read = quick.rows(json.dumps({"rows": [row], "ids": ["a"]}).encode())
    assert read is not None
    assert read[1].ids == ["a"]
    assert read[0].scalars == (30, None, 1.0, "é", True)
    assert quick.checks
    assert not QuickReader(CODES).checks
    many = quick.rows(json.dumps({"rows": [row, {**row, "count": 7}]}).encode())
    assert many is not None
    assert many[0]["count"].is_missing().tolist() == [True, False]
    assert TableReader(PLAIN).quick.checks
    assert rows.read_request(json.dumps({"rows": [row]}).encode(), TableReader(PLAIN)).checked


@pytest.mark.parametrize(
    "change",
    [
        {"age": 121},
        {"age": None},
        {"age": 3.0},
        {"share": 2.6},
        {"share": math.nan},
        {"carrier": "B6"},
        {"night": 1},
        {"new": 1},
    ],
)
def test_what_does_not_fit_as_it_stands_is_left(change: dict[str, Any]) -> None:
    row = {"age": 30, "count": None, "share": 1, "carrier": "é", "night": True, **change}
    assert QuickReader(PLAIN).rows(json.dumps({"rows": [row]}).encode()) is None
    assert QuickReader(PLAIN).rows(b'{"rows": []}') is None
    assert QuickReader(PLAIN).rows(b'{"rows": [{}]}') is None


def test_whole_numbers_that_are_not_exact_as_floats_are_refused_as_before() -> None:
    schema = Schema("dataframe", (Column("x", Kind.FLOAT64, True, "float64"),), ())
    body = b'{"rows": [{"x": 9007199254740993}]}'
    assert QuickReader(schema).rows(body) is None
    with pytest.raises(ModelyardError, match="not exact"):
        rows.read_request(body, TableReader(schema))


def test_very_wide_tables_are_left() -> None:
    wide = [Column(f"x{at}", Kind.FLOAT64, True, "float64") for at in range(MOST_COLUMNS + 1)]
    row = {column.name: 0.5 for column in wide}
    body = json.dumps({"rows": [row]}).encode()
    assert QuickReader(Schema("dataframe", tuple(wide), ())).rows(body) is None
    assert rows.read_request(body, TableReader(Schema("dataframe", tuple(wide), ()))).frame.rows == 1


def test_a_matrix_is_read_in_one_go() -> None:
    read = QuickReader(wire_samples.ARRAY).rows(b'{"rows": [[1, 2.5, null], [4, 5, 6]]}')
    assert read is not None
    np.testing.assert_array_equal(read[0]["X"].values, [[1, 2.5, np.nan], [4, 5, 6]])
    assert QuickReader(wire_samples.ARRAY).rows(b'{"rows": [[1, 2]]}') is None


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "line\nbreak", "", "雪", "a b", "\x7f"])
def test_any_name_can_be_that_of_a_column_an_output_or_a_class(name: str) -> None:
    proba = Output("p" + name, Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=(name, "other"))
    schema = Schema("dataframe", (Column(name, Kind.FLOAT64, True, "float64"),), (proba,))
    reader = TableReader(schema)
    call = rows.read_request(json.dumps({"rows": [{name: 1.5}]}).encode(), reader)
    assert call.frame[name].values.tolist() == [1.5]
    answers = {proba.name: np.array([[0.25, 0.75]])}
    written = json.loads(rows.write_response(answers, schema, Source("m", 1, "id", 1)))
    assert written["rows"][0][proba.name] == {name: 0.25, "other": 0.75}
    tensor = {"name": name, "datatype": "FP64", "shape": [1], "data": [1.5]}
    assert oip.read_request(json.dumps({"inputs": [tensor]}).encode(), reader).frame[name].values.tolist() == [1.5]
