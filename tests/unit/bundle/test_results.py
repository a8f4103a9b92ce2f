from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.bundle.results import index_of, outputs_of, returned
from modelyard.domain.frame import Array
from modelyard.domain.schema import Kind, Output, Schema
from modelyard.errors import InvalidRequest

INDEX = pd.Index(["a", "b"], name="id")


def one(container: str, dtype: str, values: Array, **more: object) -> object:
    output = Output("o", Kind.FLOAT64, "value", "predict", container=container, dtype=dtype, **more)  # type: ignore[arg-type]
    return returned([output], {"o": values}, INDEX)


def test_an_array_has_the_dtype_of_training_and_no_index() -> None:
    got = one("ndarray", "float32", np.array([1.5, 2.5]))
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("str", np.array(["x", "y"], dtype=object)),
        ("Int64", np.array([1, 2])),
        ("datetime64[us]", np.array(["2013-01-01", "2013-02-01"], dtype="datetime64[ns]")),
        ("datetime64[ns, Europe/Zurich]", np.array(["2013-01-01", "NaT"], dtype="datetime64[ns]")),
        ("bool", np.array([True, False])),
        ("category", np.array(["x", "y"], dtype=object)),
    ],
)
def test_a_series_has_the_dtype_and_the_rows_names(dtype: str, values: Array) -> None:
    got = one("series", dtype, values)
    assert isinstance(got, pd.Series)
    assert str(got.dtype) == dtype
    assert got.index.equals(INDEX)


def test_what_is_missing_among_objects_stays_none() -> None:
    got = one("series", "object", np.array(["x", None], dtype=object))
    assert isinstance(got, pd.Series)
    assert got.tolist() == ["x", None]


def test_a_moment_keeps_its_meaning_in_its_zone() -> None:
    got = one("series", "datetime64[ns, Europe/Zurich]", np.array(["2013-01-01T00:00", "NaT"], dtype="datetime64[ns]"))
    assert isinstance(got, pd.Series)
    assert got.iloc[0] == pd.Timestamp("2013-01-01T01:00", tz="Europe/Zurich")
    assert got.isna().tolist() == [False, True]


def test_a_table_has_its_columns_in_order_each_with_its_dtype() -> None:
    parts = [("score", Kind.FLOAT64, "float64"), ("label", Kind.STRING, "str")]
    outputs = [
        Output(f"o_{part}", kind, "value", "__call__", part=part, container="dataframe", dtype=dtype)
        for part, kind, dtype in parts
    ]
    answers = {"o_score": np.array([0.1, 0.2]), "o_label": np.array(["x", "y"], dtype=object)}
    expected = pd.DataFrame({"score": [0.1, 0.2], "label": ["x", "y"]}, index=INDEX)
    pd.testing.assert_frame_equal(returned(outputs, answers, INDEX), expected)


def test_pieces_come_back_as_list_or_dict() -> None:
    def pieces(container: str, dtype: str = "int64") -> Any:
        outputs = [
            Output(f"p{i}", Kind.INT64, "label", "predict", part=i, container=container, dtype=dtype)  # type: ignore[arg-type]
            for i in range(2)
        ]
        return returned(outputs, {"p0": np.array([1, 2]), "p1": np.array([3, 4])})

    assert [part.tolist() for part in pieces("list")] == [[1, 2], [3, 4]]
    assert {key: part.tolist() for key, part in pieces("dict").items()} == {0: [1, 2], 1: [3, 4]}
    assert str(pieces("dict", "Int64")[0].dtype) == "Int64"


def test_a_plain_list_holds_plain_values() -> None:
    assert one("list", "float64", np.array([1.5, 2.5])) == [1.5, 2.5]
    moments = np.array(["2013-01-01", "NaT"], dtype="datetime64[ns]")
    assert one("list", "datetime64[ns]", moments) == [datetime(2013, 1, 1), None]


def test_a_method_that_is_not_there_is_answered_with_those_that_are() -> None:
    schema = Schema("dataframe", (), (Output("o", Kind.FLOAT64, "value", "__call__"),))
    assert outputs_of(schema, "predict")[0].name == "o"
    with pytest.raises(InvalidRequest, match="no predict_proba; it answers to: predict"):
        outputs_of(schema, "predict_proba")


def test_only_pandas_objects_name_their_rows() -> None:
    assert index_of(pd.Series([1], index=["a"])) is not None
    assert index_of([1, 2]) is None
    assert index_of(np.array([1])) is None
