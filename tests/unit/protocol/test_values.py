"""JSON values to columns: every value exact or refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.domain.frame import Vector
from modelyard.domain.schema import Column, Kind
from modelyard.errors import InvalidInput
from modelyard.protocol import jsontext
from modelyard.protocol.values import convert, flatten, read_values, write_values

INTEGERS = [kind for kind in Kind if kind.is_integer]


def column(kind: Kind, dtype: str = "") -> Column:
    return Column("c", kind, nullable=True, dtype=dtype or kind.value)


def refused(values: list[object], kind: Kind, dtype: str = "") -> str:
    with pytest.raises(InvalidInput) as caught:
        read_values(values, column(kind, dtype))
    assert caught.value.column == "c"
    return str(caught.value)


@given(st.lists(st.floats(allow_nan=False) | st.none()))
def test_doubles_come_back_bit_for_bit_from_the_wire(values: list[float | None]) -> None:
    read = read_values(jsontext.parse(jsontext.write(values, words=True)), column(Kind.FLOAT64)).values
    assert read.dtype == np.float64
    expected = [math.nan if value is None else value for value in values]
    assert np.array_equal(np.array(expected).view(np.int64), read.view(np.int64))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_singles_come_back_bit_for_bit_from_the_wire(values: list[float]) -> None:
    sent = np.array(values, dtype=np.float32)
    read = read_values(jsontext.parse(jsontext.write(write_values(sent))), column(Kind.FLOAT32)).values
    assert read.dtype == np.float32
    assert np.array_equal(sent.view(np.int32), read.view(np.int32))


@pytest.mark.parametrize("kind", INTEGERS)
@given(data=st.data())
def test_an_integer_is_kept_exactly_or_refused(kind: Kind, data: st.DataObject) -> None:
    value = data.draw(st.integers(-(2**70), 2**70) | st.integers(-300, 300))
    limits = np.iinfo(kind.numpy)
    if limits.min <= value <= limits.max:
        assert read_values([value], column(kind)).values.tolist() == [value]
    else:
        assert f"from {limits.min} to {limits.max}" in refused([value], kind)


@given(st.lists(st.text().filter(lambda text: text.isprintable()) | st.none()))
def test_texts_come_back(values: list[str | None]) -> None:
    read = read_values(jsontext.parse(jsontext.write(values)), column(Kind.STRING))
    assert read.values.tolist() == values


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_any_datetime_comes_back_from_its_own_text(ticks: int) -> None:
    moments = np.array([ticks], dtype="datetime64[ns]")
    for dtype in ("datetime64[ns]", "datetime64[ns, UTC]"):
        text = write_values(moments, dtype)
        assert read_values(text, column(Kind.DATETIME, dtype)).values.tolist() == [ticks]


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (Kind.FLOAT64, "3.5", "got the text '3.5'"),
        (Kind.FLOAT64, True, "got true"),
        (Kind.FLOAT64, [1.0], "got a list"),
        (Kind.FLOAT64, 2**53 + 1, "not exact in float64"),
        (Kind.FLOAT64, 10**400, "not exact in float64"),
        (Kind.FLOAT32, 2**24 + 1, "not exact in float32"),
        (Kind.FLOAT32, 10**39, "not exact in float32"),
        (Kind.FLOAT32, 1e300, "out of the range of float32"),
        (Kind.INT64, 1.5, "a whole number from"),
        (Kind.INT64, 1e300, "a whole number from"),
        (Kind.INT64, math.inf, "a whole number from"),
        (Kind.INT64, 9007199254740994.0, "a whole number from"),
        (Kind.INT8, 128, "a whole number from -128 to 127 (int8), got 128"),
        (Kind.UINT8, -1, "from 0 to 255"),
        (Kind.INT8, True, "got true"),
        (Kind.INT8, "1", "got the text '1'"),
        (Kind.BOOL, 1, "expected true or false, got 1"),
        (Kind.BOOL, "true", "got the text 'true'"),
        (Kind.STRING, 1, "expected a text, got 1"),
        (Kind.STRING, False, "got false"),
        (Kind.STRING, {"a": 1}, "got an object"),
        (Kind.DATETIME, 1357016400, "ISO 8601"),
        (Kind.DATETIME, "yesterday", "ISO 8601"),
        (Kind.DATETIME, "2013-02-30", "day is out of range"),
        (Kind.DATETIME, "2013-01-01T00:00Z", "training had no time zone"),
        (Kind.DATETIME, "2500-01-01", "between 1678 and 2262"),
    ],
)
def test_what_does_not_fit_is_refused_with_column_and_row(kind: Kind, value: object, says: str) -> None:
    message = refused([None, value], kind)
    assert message.startswith("column 'c', row 1: expected ")
    assert says in message


def test_a_column_with_a_zone_needs_one_in_the_text() -> None:
    assert "a time zone is needed" in refused(["2013-01-01T00:00"], Kind.DATETIME, "datetime64[ns, UTC]")


def test_an_offset_is_turned_into_universal_time() -> None:
    zoned = column(Kind.DATETIME, "datetime64[ns, America/New_York]")
    read = read_values(["2013-01-01T05:15:00.25-05:00", "2013-01-01 10:15:00.250Z"], zoned).values
    assert read[0] == read[1] == np.datetime64("2013-01-01T10:15:00.250")


def test_whole_doubles_are_integers_and_null_is_missing() -> None:
    read = read_values([3.0, None, math.nan, 4], column(Kind.INT16))
    assert read.values.tolist() == [3, 0, 0, 4]
    assert read.is_missing().tolist() == [False, True, True, False]


@pytest.mark.parametrize("kind", list(Kind))
def test_null_and_the_bare_word_are_missing_in_every_kind(kind: Kind) -> None:
    assert read_values([None, math.nan], column(kind)).is_missing().tolist() == [True, True]


@pytest.mark.parametrize("kind", list(Kind))
def test_no_values_give_an_empty_column_of_the_kind(kind: Kind) -> None:
    read = read_values([], column(kind))
    assert read.values.shape == (0,)
    assert read.values.dtype == kind.numpy


def test_the_row_of_a_tensor_counts_its_leaves() -> None:
    with pytest.raises(InvalidInput, match="row 2"):
        read_values([1.0, 1.0, 1.0, 1.0, 1.0, "x"], column(Kind.FLOAT64), inner=2)


@settings(max_examples=20)
@pytest.mark.parametrize("target", [kind for kind in Kind if kind.is_integer or kind.is_float])
@pytest.mark.parametrize("sent", [kind for kind in Kind if kind.is_integer or kind.is_float])
@given(data=st.data())
def test_a_number_sent_as_another_kind_is_exact_or_refused(sent: Kind, target: Kind, data: st.DataObject) -> None:
    if sent.is_float:
        width = 32 if sent is Kind.FLOAT32 else 64
        edges = [2.0**bits for bits in (7, 8, 15, 16, 31, 32, 63, 64)]
        value = data.draw(st.floats(width=width) | st.sampled_from(edges) | st.integers(-300, 300).map(float))
    else:
        limits = np.iinfo(sent.numpy)
        value = data.draw(st.integers(int(limits.min), int(limits.max)) | st.sampled_from([limits.min, limits.max]))
    vector = Vector(np.array([value], dtype=sent.numpy))
    try:
        got = convert(vector, sent, column(target))
    except InvalidInput:
        assert not _is_exact(value, target)
        return
    if value != value:
        assert got.is_missing().tolist() == [True]
    else:
        assert got.values.tolist() == [value]


def _is_exact(value: float, target: Kind) -> bool:
    if value != value:
        return True
    if target.is_integer:
        limits = np.iinfo(target.numpy)
        return not math.isinf(value) and value == int(value) and limits.min <= int(value) <= limits.max
    with np.errstate(over="ignore"):
        cast = float(np.array([value]).astype(target.numpy)[0])
    return math.isinf(value) or (not math.isinf(cast) and cast == value and int(cast) == int(value))


def test_texts_and_numbers_are_not_exchanged() -> None:
    with pytest.raises(InvalidInput, match="expected a number"):
        convert(Vector(np.array(["1"], dtype=object)), Kind.STRING, column(Kind.FLOAT64))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_nested_and_flat_data_are_the_same(shape: list[int]) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    assert list(flatten(array.tolist(), shape, "x")) == array.ravel().tolist()
    assert list(flatten(array.ravel().tolist(), shape, "x")) == array.ravel().tolist()


@pytest.mark.parametrize(
    "data", [[[1, 2], [3]], [[1, 2], 3], [[1, 2]], [[[1], [2]], [[3], [4]]], [1, 2, 3], [[1, 2, 3], [4]]]
)
def test_ragged_and_miscounted_data_is_refused(data: list[object]) -> None:
    with pytest.raises(InvalidInput, match="x: "):
        flatten(data, [2, 2], "x")
