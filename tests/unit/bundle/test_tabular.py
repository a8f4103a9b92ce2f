"""Tables of any origin to frames, exactly or not at all."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.bundle.tabular import from_arrow, to_arrow, to_frame
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.schema import Column, Kind, Schema
from modelyard.errors import InvalidInput

DTYPES = {
    Kind.INT64: "int64",
    Kind.INT8: "int8",
    Kind.UINT8: "uint8",
    Kind.UINT64: "uint64",
    Kind.FLOAT64: "float64",
    Kind.FLOAT32: "float32",
    Kind.BOOL: "boolean",
    Kind.STRING: "str",
    Kind.DATETIME: "datetime64[ns]",
}


def table(**kinds):
    columns = tuple(Column(name, kind, True, DTYPES[kind]) for name, kind in kinds.items())
    return Schema("dataframe", columns, ())


def read(series, kind, dtype=None):
    column = Column("a", kind, True, dtype or DTYPES[kind])
    return to_frame(pd.DataFrame({"a": series}), Schema("dataframe", (column,), ()))["a"]


@pytest.mark.parametrize(
    ("series", "kind", "values", "missing"),
    [
        (pd.Series([1, 2]), Kind.FLOAT64, [1.0, 2.0], [False, False]),
        (pd.Series([1, None]), Kind.INT64, [1, 0], [False, True]),
        (pd.Series([1, None], dtype="Int64"), Kind.INT8, [1, 0], [False, True]),
        (pd.Series([1, None], dtype="int64[pyarrow]"), Kind.INT64, [1, 0], [False, True]),
        (pd.Series([2**63, None], dtype="UInt64"), Kind.UINT64, [2**63, 0], [False, True]),
        (pd.Series([2**63, None], dtype=object), Kind.UINT64, [2**63, 0], [False, True]),
        (pd.Series([1, 2.0, None], dtype=object), Kind.INT64, [1, 2, 0], [False, False, True]),
        (pd.Series([True, None]), Kind.BOOL, [True, False], [False, True]),
        (pd.Series([True, None], dtype="boolean"), Kind.BOOL, [True, False], [False, True]),
        (pd.Series(["a", None]), Kind.STRING, ["a", None], [False, True]),
        (pd.Series(["a", np.nan], dtype=object), Kind.STRING, ["a", None], [False, True]),
        (pd.Series(["a", pd.NA], dtype="string"), Kind.STRING, ["a", None], [False, True]),
        (pd.Series(["a", None]).astype("category"), Kind.STRING, ["a", None], [False, True]),
        (pd.Series([np.nan, np.nan]), Kind.STRING, [None, None], [True, True]),
        (pd.Series([np.nan, np.nan]), Kind.BOOL, [False, False], [True, True]),
        (pd.Series([1, 2]).astype("category"), Kind.INT64, [1, 2], [False, False]),
        (
            pd.Series([1.5, None], dtype="Float64"),
            Kind.FLOAT32,
            [1.5, pytest.approx(np.nan, nan_ok=True)],
            [False, True],
        ),
    ],
)
def test_missing_and_values_are_those_of_the_source(series, kind, values, missing):
    vector = read(series, kind)
    assert vector.values.tolist() == values
    assert vector.values.dtype == kind.numpy
    assert vector.is_missing().tolist() == missing


@pytest.mark.parametrize(
    ("series", "kind", "said"),
    [
        (pd.Series([1.5]), Kind.INT64, "whole number from .* got 1.5"),
        (pd.Series([True]), Kind.INT64, "got True"),
        (pd.Series([True]), Kind.FLOAT64, "got True"),
        (pd.Series([1]), Kind.BOOL, "true or false, got 1"),
        (pd.Series([1.0]), Kind.STRING, "a text, got 1.0"),
        (pd.Series(["1"]), Kind.FLOAT64, "got the text '1'"),
        (pd.Series(["1"]), Kind.INT64, "got the text '1'"),
        (pd.Series([300]), Kind.INT8, "from -128 to 127"),
        (pd.Series([-1]), Kind.UINT64, "got -1"),
        (pd.Series([2**53 + 1]), Kind.FLOAT64, "not exact in float64"),
        (pd.Series([2**24 + 1]), Kind.FLOAT32, "not exact in float32"),
        (pd.Series([1e300]), Kind.FLOAT32, "out of the range of float32"),
        (pd.Series([1e300]), Kind.INT64, "got 1e[+]300"),
        (pd.Series([np.inf]), Kind.INT64, "got inf"),
        (pd.Series([10**30], dtype=object), Kind.INT64, "got 1000000"),
        (pd.Series([1, "a"], dtype=object), Kind.STRING, "got 1"),
        (pd.Series([1]), Kind.DATETIME, "a date and time, got 1"),
        (pd.Series(["soon"]), Kind.DATETIME, "got the text 'soon'"),
        (pd.Series(pd.to_datetime(["2020-01-01"], utc=True)), Kind.DATETIME, "without a time zone"),
        (pd.Series(np.array(["3000-01-01"], dtype="M8[s]")), Kind.DATETIME, "between 1678 and 2262"),
    ],
)
def test_what_is_not_exact_is_refused_with_column_and_row(series, kind, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        read(series, kind)
    assert caught.value.column == "a"


def test_the_row_of_the_first_misfit_is_named():
    with pytest.raises(InvalidInput, match="column 'a', row 2") as caught:
        read(pd.Series([1.0, 2.0, 2.5]), Kind.INT64)
    assert caught.value.row == 2


@pytest.mark.parametrize(
    "value",
    ["2020-01-01T00:00:00", pd.Timestamp("2020-01-01"), dt.datetime(2020, 1, 1), dt.date(2020, 1, 1)],
)
def test_dates_come_as_texts_or_objects(value):
    vector = read(pd.Series([value, None], dtype=object), Kind.DATETIME)
    assert vector.values[0] == np.datetime64("2020-01-01", "ns")
    assert vector.is_missing().tolist() == [False, True]


def test_zones_become_utc():
    zoned = pd.Series(pd.to_datetime(["2020-07-01"])).dt.tz_localize("Europe/Zurich")
    vector = read(zoned, Kind.DATETIME, "datetime64[ns, UTC]")
    assert str(vector.values[0]) == "2020-06-30T22:00:00.000000000"
    with pytest.raises(InvalidInput, match="time zone"):
        read(pd.Series(["2020-07-01"]), Kind.DATETIME, "datetime64[ns, UTC]")


def test_columns_are_matched_by_name():
    schema = table(a=Kind.INT64, b=Kind.STRING)
    frame = to_frame(pd.DataFrame({"b": ["x"], "a": [1]}), schema)
    assert list(frame.columns) == ["a", "b"]
    assert frame["a"].values.tolist() == [1]


def test_a_column_too_few_or_too_many_is_an_error():
    schema = table(a=Kind.INT64, b=Kind.STRING)
    with pytest.raises(InvalidInput, match="column 'b' is missing; the model takes 'a', 'b'; unknown here: 'B'"):
        to_frame(pd.DataFrame({"a": [1], "B": ["x"]}), schema)
    more = pd.DataFrame({"a": [1], "b": ["x"], "c": [2]})
    with pytest.raises(InvalidInput, match="unknown column 'c'"):
        to_frame(more, schema)
    assert list(to_frame(more, schema, ignore_extra=True).columns) == ["a", "b"]


def test_lists_of_dicts_and_dicts_of_lists_are_tables():
    schema = table(a=Kind.INT64, b=Kind.STRING)
    rows = to_frame([{"a": 1, "b": None}, {"a": None, "b": "x"}], schema)
    columns = to_frame({"a": [1, None], "b": [None, "x"]}, schema)
    for frame in (rows, columns):
        assert frame["a"].is_missing().tolist() == [False, True]
        assert frame["b"].values.tolist() == [None, "x"]
    with pytest.raises(InvalidInput, match="row 1: absent; send None"):
        to_frame([{"a": 1, "b": "x"}, {"a": 1}], schema)


MATRIX = Schema("array", (Column("X", Kind.FLOAT64, True, "float64", shape=(2,)),), ())


@pytest.mark.parametrize(
    "data",
    [
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], dtype=object),
        [[1, 2], [3, 4.0]],
        pd.DataFrame({"p": [1, 3], "q": [2.0, 4.0]}),
        pa.table({"p": [1, 3], "q": [2.0, 4.0]}),
    ],
)
def test_matrices_of_any_kind(data):
    assert to_frame(data, MATRIX)["X"].values.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_missing_in_a_matrix():
    assert to_frame([[1, None]], MATRIX)["X"].is_missing().tolist() == [[False, True]]
    assert to_frame(pa.table({"p": [1], "q": pa.array([None], pa.int64())}), MATRIX)["X"].is_missing().any()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.array([1.0, 2.0]), r"reshape\(1, -1\)"),
        (np.ones((1, 3)), r"shape \(rows, 2\), got one of shape \(1, 3\)"),
        ([[1.0, 2.0], [1.0]], "differ in length"),
        ([["1", 2.0]], "row 0: .* got the text '1'"),
        (np.array([[True, False]]), "got True"),
        ("text", "expected an array"),
        (pa.table({"p": [1]}), "expected 2 columns"),
    ],
)
def test_matrices_that_do_not_fit(data, said):
    with pytest.raises(InvalidInput, match=said):
        to_frame(data, MATRIX)


TEXTS = Schema("series", (Column("X", Kind.STRING, True, "object"),), ())


@pytest.mark.parametrize(
    "data",
    [
        ["a", None],
        np.array(["a", None], dtype=object),
        pd.Series(["a", None], name="other"),
        pd.DataFrame({"any": ["a", None]}),
        pa.table({"X": ["a", None]}),
        {"X": ["a", None]},
    ],
)
def test_one_value_a_row(data):
    assert to_frame(data, TEXTS)["X"].values.tolist() == ["a", None]


def test_one_value_a_row_is_not_a_single_text():
    with pytest.raises(InvalidInput, match="give a Series or a list"):
        to_frame("a", TEXTS)


def test_tensors_by_name():
    schema = Schema(
        "tensors",
        (Column("x", Kind.FLOAT32, False, "float32", shape=(2, -1)), Column("n", Kind.INT64, False, "int64")),
        (),
    )
    frame = to_frame({"n": np.array([1]), "x": np.ones((1, 2, 5), "f4")}, schema)
    assert frame["x"].values.shape == (1, 2, 5)
    back = from_arrow(to_arrow(frame, schema), schema)
    assert back["x"].values.shape == (1, 2, 5)
    with pytest.raises(InvalidInput, match="differ in their number of rows"):
        to_frame({"n": np.array([1, 2]), "x": np.ones((1, 2, 5), "f4")}, schema)


def test_arrow_types_are_read_as_strictly():
    schema = table(a=Kind.INT64)
    assert from_arrow(pa.table({"a": pa.array([1, None])}), schema)["a"].is_missing().tolist() == [False, True]
    assert from_arrow(pa.table({"a": pa.array([None])}), schema)["a"].is_missing().tolist() == [True]
    assert from_arrow(pa.table({"a": pa.chunked_array([[1], [2]])}), schema)["a"].values.tolist() == [1, 2]
    assert from_arrow(pa.table({"a": pa.chunked_array([], pa.int64())}), schema).rows == 0
    with pytest.raises(InvalidInput, match="got the text '1'"):
        from_arrow(pa.table({"a": ["1"]}), schema)
    words = table(a=Kind.STRING)
    encoded = pa.table({"a": pa.array(["x", None]).dictionary_encode()})
    assert from_arrow(encoded, words)["a"].values.tolist() == ["x", None]


cells = {
    Kind.INT64: st.none() | st.integers(-(2**63), 2**63 - 1),
    Kind.FLOAT64: st.floats(),
    Kind.BOOL: st.none() | st.booleans(),
    Kind.STRING: st.none() | st.text(st.characters(codec="utf-8")),
}


@given(st.data())
def test_arrow_gives_back_the_same_bits(data):
    kind = data.draw(st.sampled_from(list(cells)))
    values = data.draw(st.lists(cells[kind], min_size=1, max_size=6))
    gone = np.array([value is None for value in values])
    array = np.zeros(len(values), dtype=kind.numpy)
    for at, value in enumerate(values):
        array[at] = value if value is not None or kind is Kind.STRING else 0
    masked = gone if gone.any() and kind in (Kind.INT64, Kind.BOOL) else None
    schema = table(a=kind)
    back = from_arrow(to_arrow(Frame({"a": Vector(array, masked)}, len(values)), schema), schema)["a"]
    assert back.is_missing().tolist() == Vector(array, masked).is_missing().tolist()
    if kind is Kind.FLOAT64:
        assert back.values.view("i8").tolist() == array.view("i8").tolist()
    else:
        assert back.values.tolist() == array.tolist()
