"""The one place that refuses rows."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.checks import check, offences
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.schema import Accepts, Column, Kind, PerSchema, Schema
from modelyard.errors import InvalidInput


def schema_of(*columns):
    return Schema("dataframe", columns, ())


def frame_of(**vectors):
    return Frame(vectors, len(next(iter(vectors.values())).values))


def texts(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return Vector(array)


@pytest.mark.parametrize(
    ("column", "vector", "said"),
    [
        (Column("a", Kind.FLOAT64, False, "float64"), Vector(np.array([np.nan])), "is missing; .* finite number"),
        (Column("a", Kind.FLOAT64, True, "float64"), Vector(np.array([np.inf])), "got inf"),
        (Column("a", Kind.FLOAT32, True, "float32"), Vector(np.array([-np.inf], "f4")), "got -inf"),
        (
            Column("a", Kind.FLOAT64, True, "float64", accepts=Accepts(minimum=-1, maximum=1)),
            Vector(np.array([1.5])),
            "got 1.5, expected a finite number between -1 and 1",
        ),
        (Column("a", Kind.INT64, False, "int64", accepts=Accepts(minimum=0)), Vector(np.array([-1])), "of at least 0"),
        (Column("a", Kind.INT64, False, "int64"), Vector(np.array([0]), np.array([True])), "is missing"),
        (Column("a", Kind.BOOL, False, "bool"), Vector(np.array([False]), np.array([True])), "true or false"),
        (Column("a", Kind.STRING, False, "str"), texts(None), "a text here"),
        (
            Column("a", Kind.STRING, True, "str", accepts=Accepts(categories=("x", "y"))),
            texts("z"),
            "got 'z', expected one of 'x', 'y'",
        ),
        (
            Column("a", Kind.INT8, True, "Int8", accepts=Accepts(categories=(1, 2))),
            Vector(np.array([3], "i1")),
            "got 3",
        ),
        (Column("a", Kind.DATETIME, False, "datetime64[ns]"), Vector(np.array(["NaT"], "M8[ns]")), "ISO 8601"),
        (
            Column("a", Kind.FLOAT64, True, "float64", shape=(2,), accepts=Accepts(maximum=9)),
            Vector(np.array([[1.0, 10.0]])),
            "row 0, position 1: got 10.0",
        ),
    ],
)
def test_a_value_that_is_not_taken_is_refused_by_name_alone_and_among_others(column, vector, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        check(frame_of(a=vector), schema_of(column))
    assert (caught.value.column, caught.value.row) == ("a", 0)
    twice = Frame({"a": vector.take([0, 0])}, 2)
    with pytest.raises(InvalidInput, match=said):
        check(twice, schema_of(column))


@pytest.mark.parametrize(
    ("column", "vector"),
    [
        (Column("a", Kind.FLOAT64, True, "float64"), Vector(np.array([np.nan]))),
        (Column("a", Kind.FLOAT64, True, "float64", accepts=Accepts(infinite=True)), Vector(np.array([np.inf]))),
        (Column("a", Kind.FLOAT64, True, "float64", accepts=Accepts(minimum=0, maximum=1)), Vector(np.array([np.nan]))),
        (Column("a", Kind.INT64, True, "Int64", accepts=Accepts(minimum=5)), Vector(np.array([0]), np.array([True]))),
        (Column("a", Kind.STRING, True, "str", accepts=Accepts(categories=("x",))), texts(None)),
        (
            Column("a", Kind.BOOL, True, "boolean", accepts=Accepts(categories=(True,))),
            Vector(np.array([False]), np.array([True])),
        ),
        (Column("a", Kind.DATETIME, True, "datetime64[ns]"), Vector(np.array(["NaT"], "M8[ns]"))),
    ],
)
def test_what_is_taken_passes_alone_and_among_others(column, vector):
    check(frame_of(a=vector), schema_of(column))
    check(Frame({"a": vector.take([0, 0, 0])}, 3), schema_of(column))


def test_offences_names_each_row_once_in_order():
    column = Column("a", Kind.FLOAT64, False, "float64")
    other = Column("b", Kind.STRING, False, "str")
    frame = frame_of(a=Vector(np.array([1.0, np.nan, np.inf])), b=texts("x", None, "y"))
    found = offences(frame, schema_of(column, other))
    assert list(found) == [1, 2]
    assert "column 'a'" in found[1]


def test_no_rows_pass():
    column = Column("a", Kind.FLOAT64, False, "float64", shape=(3,))
    check(Frame({"a": Vector(np.empty((0, 3)))}, 0), schema_of(column))


@given(
    st.lists(st.floats(width=64) | st.just(float("nan")), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(-10, 0),
    st.none() | st.floats(0, 10),
)
def test_one_row_and_many_rows_decide_alike(values, nullable, infinite, low, high):
    accepts = Accepts(minimum=low, maximum=high, infinite=infinite)
    schema = schema_of(Column("a", Kind.FLOAT64, nullable, "float64", accepts=accepts))
    frame = frame_of(a=Vector(np.array(values)))
    alone = {row for row in range(frame.rows) if _refused(frame.row(row), schema)}
    assert set(offences(frame, schema)) == alone
    assert _refused(frame, schema) == bool(alone)


def _refused(frame, schema):
    try:
        check(frame, schema)
    except InvalidInput:
        return True
    return False


def test_what_is_made_for_a_schema_goes_when_the_schema_does() -> None:
    made = PerSchema(lambda schema: len(schema.columns))
    schema = Schema("dataframe", (), ())
    assert made(schema) == made(schema) == 0
    assert len(made) == 1
    del schema
    gc.collect()
    assert len(made) == 0
