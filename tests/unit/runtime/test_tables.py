"""The estimator is given what training gave it: dtypes, markers of missing values, categories, layout."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.runtime.host import tables

MASK = np.array([False, True])


def texts(*values: str | None) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def moments(*values: str) -> Any:
    return np.array(values, dtype="datetime64[ns]")


def column(kind: str, dtype: str, missing: str = "nan", **more: Any) -> dict[str, Any]:
    return {"name": "a", "kind": kind, "dtype": dtype, "missing": missing, "categories": None, "ordered": False} | more


UTC = pd.Timestamp("2020-01-01", tz="UTC")
CASES = [
    (column("float64", "float64"), np.array([1, np.nan]), None, pd.Series([1, np.nan])),
    (column("float32", "float32"), np.array([1, np.nan], "f4"), None, pd.Series([1, np.nan], dtype="float32")),
    (column("int64", "int64"), np.array([1, 2]), None, pd.Series([1, 2])),
    (column("int8", "int8"), np.array([1, 2], "i1"), None, pd.Series([1, 2], dtype="int8")),
    (column("int64", "Int64", "NA"), np.array([1, 0]), MASK, pd.Series([1, None], dtype="Int64")),
    (column("int64", "float64"), np.array([1, 0]), MASK, pd.Series([1, np.nan])),
    (column("int64", "object", "none"), np.array([1, 0]), MASK, pd.Series([1, None], dtype=object)),
    (column("bool", "bool"), np.array([True, False]), None, pd.Series([True, False])),
    (column("bool", "boolean", "NA"), np.array([True, False]), MASK, pd.Series([True, None], dtype="boolean")),
    (column("bool", "object", "none"), np.array([True, False]), MASK, pd.Series([True, None], dtype=object)),
    (column("bool", "object"), np.array([True, False]), MASK, pd.Series([True, np.nan], dtype=object)),
    (column("float64", "Float64", "NA"), np.array([1, np.nan]), None, pd.Series([1, None], dtype="Float64")),
    (column("string", "str"), texts("x", None), None, pd.Series(["x", None], dtype="str")),
    (column("string", "string", "NA"), texts("x", None), None, pd.Series(["x", None], dtype="string")),
    (column("string", "object", "none"), texts("x", None), None, pd.Series(["x", None], dtype=object)),
    (column("string", "object"), texts("x", None), None, pd.Series(["x", np.nan], dtype=object)),
    (
        column("datetime", "datetime64[ns]", "NaT"),
        moments("2020-01-01", "NaT"),
        None,
        pd.Series(moments("2020-01-01", "NaT")),
    ),
    (
        column("datetime", "datetime64[s]", "NaT"),
        moments("2020-01-01", "NaT"),
        None,
        pd.Series(["2020-01-01", None], dtype="datetime64[s]"),
    ),
    (
        column("datetime", "datetime64[us, Europe/Zurich]", "NaT"),
        moments("2020-01-01", "NaT"),
        None,
        pd.Series([UTC, None]).astype("datetime64[us, UTC]").dt.tz_convert("Europe/Zurich"),
    ),
    (
        column("float64", "double[pyarrow]", "NA"),
        np.array([1, np.nan]),
        None,
        pd.Series([1, None], dtype="double[pyarrow]"),
    ),
    (column("int64", "int64[pyarrow]", "NA"), np.array([1, 0]), MASK, pd.Series([1, None], dtype="int64[pyarrow]")),
    (
        column("datetime", "timestamp[us][pyarrow]", "NA"),
        moments("2020-01-01", "NaT"),
        None,
        pd.Series([pd.Timestamp("2020-01-01"), None]).astype("timestamp[us][pyarrow]"),
    ),
]


@pytest.mark.parametrize(
    ("spec", "values", "missing", "expected"), CASES, ids=lambda case: str(getattr(case, "dtype", ""))
)
def test_a_column_comes_back_as_training_had_it(spec: dict[str, Any], values: Any, missing: Any, expected: Any) -> None:
    frame = tables.builder("dataframe", [spec])([(values, missing)], 2)
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"a": expected}), check_freq=False)
    one = tables.builder("dataframe", [spec])([(values[:1], None if missing is None else missing[:1])], 1)
    pd.testing.assert_frame_equal(one, pd.DataFrame({"a": expected[:1]}), check_freq=False)


def test_missing_markers_are_the_very_objects_of_training() -> None:
    for missing, marker in {"none": None, "NA": pd.NA, "NaT": pd.NaT}.items():
        frame = tables.builder("dataframe", [column("string", "object", missing)])([(texts("x", None), None)], 2)
        assert frame["a"].iloc[1] is marker


def test_columns_keep_their_order_whatever_their_types() -> None:
    specs = [
        column("string", "str", name="s"),
        column("float64", "float64", name="x"),
        column("int64", "int64", name="i"),
        column("float64", "float64", name="y"),
    ]
    cells = [(texts("a"), None), (np.array([1.5]), None), (np.array([2]), None), (np.array([3.5]), None)]
    frame = tables.builder("dataframe", specs)(cells, 1)
    assert list(frame.columns) == ["s", "x", "i", "y"]
    assert frame.iloc[0].tolist() == ["a", 1.5, 2, 3.5]
    assert isinstance(frame.index, pd.RangeIndex)


def test_categories_are_those_of_training_in_their_order() -> None:
    spec = column("string", "category", categories=("low", "high"), ordered=True)
    frame = tables.builder("dataframe", [spec])([(texts("high", None), None)], 2)
    assert list(frame["a"].cat.categories) == ["low", "high"]
    assert frame["a"].cat.ordered
    assert frame["a"].cat.codes.tolist() == [1, -1]


def test_a_value_that_training_never_saw_is_not_turned_into_a_missing_one() -> None:
    spec = column("string", "category", categories=("low", "high"))
    frame = tables.builder("dataframe", [spec])([(texts("new", "low"), None)], 2)
    assert frame["a"].tolist() == ["new", "low"]
    assert list(frame["a"].cat.categories) == ["low", "high", "new"]


def test_whole_number_categories_keep_their_type() -> None:
    spec = column("int64", "category", categories=(3, 1))
    frame = tables.builder("dataframe", [spec])([(np.array([1, 0]), MASK)], 2)
    assert frame["a"].cat.categories.dtype == np.int64
    assert frame["a"].cat.codes.tolist() == [1, -1]


def test_a_missing_value_that_the_type_cannot_hold_is_refused_by_name() -> None:
    build = tables.builder("dataframe", [column("int64", "int64")])
    with pytest.raises(ValueError, match=r"column 'a'.*missing"):
        build([(np.array([1, 0]), MASK)], 2)


def test_without_pandas_block_constructor_the_frame_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [{**spec, "name": str(at)} for at, (spec, *_) in enumerate(CASES)]
    cells = [(values, missing) for _, values, missing, _ in CASES]
    quick = tables.builder("dataframe", specs)(cells, 2)
    monkeypatch.setattr(tables, "_block_constructor", lambda: None)
    pd.testing.assert_frame_equal(tables.builder("dataframe", specs)(cells, 2), quick)


def test_an_array_has_its_dtype_and_is_contiguous() -> None:
    values = np.arange(6, dtype=np.float64).reshape(2, 3)[:, ::-1]
    built = tables.builder("array", [column("float64", "float32", shape=(3,))])([(values, None)], 2)
    assert built.dtype == np.float32
    assert built.flags.c_contiguous


def test_texts_in_an_array_are_not_cut_to_the_length_of_training() -> None:
    built = tables.builder("array", [column("string", "<U2", shape=(1,))])([(texts("longer").reshape(1, 1), None)], 1)
    assert built.tolist() == [["longer"]]
    assert built.dtype.kind == "U"


def test_a_column_of_texts_alone_is_a_series() -> None:
    built = tables.builder("series", [column("string", "str")])([(texts("x", None), None)], 2)
    pd.testing.assert_series_equal(built, pd.Series(["x", None], dtype="str", name="a"))


def test_tensors_come_by_name() -> None:
    built = tables.builder("tensors", [column("float32", "float32")])([(np.ones((2, 3), "f4"), None)], 2)
    assert built["a"].shape == (2, 3)


def test_an_unknown_layout_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown layout 'cube'"):
        tables.builder("cube", [])
