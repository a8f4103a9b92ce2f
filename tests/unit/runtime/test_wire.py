"""What is sent arrives: any kind, any shape, any missing values, any text; garbage is recognised."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.domain.schema import Kind
from modelyard.runtime.host import wire

TEXTS = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(["", "\0", "a\0b", "\ud800"])


@st.composite
def columns(draw: st.DrawFn, rows: int) -> tuple[str, Any, Any]:
    kind = draw(st.sampled_from(Kind))
    shape = (rows, *draw(st.lists(st.integers(0, 3), max_size=2)))
    if kind is Kind.STRING:
        flat = draw(st.lists(TEXTS | st.none(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        values = np.empty(len(flat), dtype=object)
        values[:] = flat
        return kind.value, values.reshape(shape), None
    if kind is Kind.DATETIME:
        integers = draw(hnp.arrays(np.int64, shape))
        return kind.value, integers.view("datetime64[ns]"), None
    values = draw(hnp.arrays(kind.numpy, shape))
    missing = draw(st.none() | hnp.arrays(np.bool_, shape))
    return kind.value, values, missing


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, list[tuple[str, Any, Any]]]:
    rows = draw(st.integers(0, 4))
    return rows, draw(st.lists(columns(rows), max_size=5))


def same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    if one.dtype == object:
        return one.shape == other.shape and one.tolist() == other.tolist()
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@given(tables(), st.integers(0, 2**40))
def test_a_call_arrives_as_it_was_sent(table: tuple[int, list[tuple[str, Any, Any]]], wanted: int) -> None:
    rows, sent = table
    kinds = [kind for kind, _, _ in sent]
    message = wire.call(rows, wanted, kinds, [(values, missing) for _, values, missing in sent])
    kind, length = wire.head(message)
    assert (kind, length) == (wire.CALL, len(message) - wire.HEAD.size)
    got_rows, got_wanted, got = wire.read_call(kinds, bytearray(message[wire.HEAD.size :]))
    assert (got_rows, got_wanted) == (rows, wanted)
    assert all(
        same(values, found) and same(missing, mask)
        for (_, values, missing), (found, mask) in zip(sent, got, strict=True)
    )


@given(tables())
def test_answers_arrive_as_they_were_sent(table: tuple[int, list[tuple[str, Any, Any]]]) -> None:
    rows, sent = table
    kinds = [kind for kind, _, _ in sent]
    message = wire.answers(kinds, [values for _, values, _ in sent])
    got = wire.read_answers(kinds, bytearray(message[wire.HEAD.size :]), rows)
    assert all(same(values, found) for (_, values, _), found in zip(sent, got, strict=True))


@given(st.lists(st.sampled_from([kind.value for kind in Kind]), max_size=4), st.integers(0, 5), st.binary(max_size=80))
def test_garbage_is_recognised_or_read_but_breaks_nothing(kinds: list[str], rows: int, body: bytes) -> None:
    try:
        found = wire.read_answers(kinds, body, rows)
    except wire.Malformed:
        return
    assert len(found) == len(kinds)


@given(tables(), st.data())
def test_a_cut_answer_is_recognised(table: tuple[int, list[tuple[str, Any, Any]]], data: st.DataObject) -> None:
    rows, sent = table
    kinds = [kind for kind, _, _ in sent]
    body = wire.answers(kinds, [values for _, values, _ in sent])[wire.HEAD.size :]
    if body:
        cut = body[: data.draw(st.integers(0, len(body) - 1))]
        with pytest.raises(wire.Malformed):
            wire.read_answers(kinds, cut, rows)


def test_numbers_can_be_read_in_place_and_written_to() -> None:
    message = wire.call(3, 1, ["bool", "float64"], [(np.array([True, False, True]), None), (np.arange(3.0), None)])
    _, _, cells = wire.read_call(["bool", "float64"], memoryview(bytearray(message[wire.HEAD.size :])))
    floats = cells[1][0]
    assert floats.flags.aligned
    floats += 1
    assert floats.tolist() == [1.0, 2.0, 3.0]


def test_a_length_beyond_all_messages_is_garbage() -> None:
    with pytest.raises(wire.Malformed, match="bytes"):
        wire.head(wire.HEAD.pack(wire.READY, 0, 1 << 62))
