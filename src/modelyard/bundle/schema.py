"""Columns by looking at the sample: kinds, how missing was written, and what training saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from modelyard.bundle.tabular import to_frame
from modelyard.domain.frame import Array, Frame, Vector
from modelyard.domain.schema import Column, Kind, Layout, Missing, Scalar, Schema, Seen
from modelyard.errors import CannotPack, InvalidInput

LISTED_CATEGORIES = 255
"""So many values of a column are listed at most."""

_FEW = 20  # this many distinct values are listed even if each is rare

_KINDS_OF_OBJECTS = {
    "string": Kind.STRING,
    "empty": Kind.STRING,
    "boolean": Kind.BOOL,
    "integer": Kind.INT64,
    "floating": Kind.FLOAT64,
    "mixed-integer-float": Kind.FLOAT64,
}
"""What pandas calls the contents of an object column, as far as a column can be made of them."""

_REMEDIES = {
    "datetime": "make them datetimes with pd.to_datetime",
    "datetime64": "make them datetimes with pd.to_datetime",
    "date": "make them datetimes with pd.to_datetime",
    "decimal": "make them floats with astype(float)",
    "bytes": "make them texts with .str.decode('utf-8')",
    "mixed-integer": "make every value a text with astype(str), or every value a number",
}


def infer_columns(sample: Any) -> tuple[Layout, tuple[Column, ...]]:
    """How training handed over rows, and the columns in them.

    Args:
        sample: A DataFrame, a 2-D array, a Series, a list or 1-D array of texts or numbers, a list of lists, or a dict
            of named arrays.

    Returns:
        The layout, and columns with name, kind, dtype and what was seen. Whether a column may be missing is
        only known for certain where its type has no way to say so; `modelyard.bundle.probe` asks the estimator.

    Raises:
        CannotPack: a column without a text as its name, two of the same name, an unsupported type, or mixed contents.

    >>> layout, columns = infer_columns(pd.DataFrame({"age": [41, 38], "city": ["Bern", None]}))
    >>> layout, [(column.name, column.kind.value, column.nullable) for column in columns]
    ('dataframe', [('age', 'int64', False), ('city', 'string', True)])
    """
    layout, columns = _typed(sample)
    try:
        frame = to_frame(sample, Schema(layout, columns, ()))
    except InvalidInput as error:
        raise CannotPack(f"the sample cannot be packed: {error}") from None
    if frame.rows == 0:
        raise CannotPack("the sample has no rows; give some of the rows that the estimator was trained on")
    return layout, tuple(_with_seen(column, frame[column.name]) for column in columns)


def _typed(sample: Any) -> tuple[Layout, tuple[Column, ...]]:
    if isinstance(sample, pd.DataFrame):
        return "dataframe", _of_table(sample)
    if isinstance(sample, pd.Series):
        name = sample.name if isinstance(sample.name, str) else None
        return "series", (_of_series(sample, name or "X"),)
    if isinstance(sample, Mapping):
        return "tensors", tuple(_of_array(np.asarray(value), str(name)) for name, value in sample.items())
    if hasattr(sample, "toarray"):
        raise CannotPack(
            "the sample is a sparse matrix; pack the pipeline that makes it from a table or texts, "
            "or give sample.toarray()"
        )
    array = _as_array(sample)
    column = _of_array(array, "X")
    return ("series" if array.ndim == 1 else "array"), (column,)


def _as_array(sample: Any) -> Array:
    if isinstance(sample, np.ndarray):
        array = sample
    elif isinstance(sample, list | tuple):
        array = _list_as_array(sample)
    else:
        raise CannotPack(
            f"the sample is a {type(sample).__module__}.{type(sample).__qualname__}; "
            "give a pandas DataFrame, an array, a Series or a list of texts, as in training"
        )
    if array.ndim == 0:
        raise CannotPack("the sample is a single value; give rows")
    return array


def _list_as_array(sample: Sequence[Any]) -> Array:
    if sample and isinstance(sample[0], Mapping):
        raise CannotPack("the sample is a list of dicts; give a DataFrame if the estimator takes one")
    if all(value is None or isinstance(value, str) for value in sample):
        array = np.empty(len(sample), dtype=object)
        array[:] = list(sample)
        return array
    try:
        return np.asarray(sample)
    except ValueError:
        raise CannotPack("the rows of the sample differ in length") from None


def _of_table(table: pd.DataFrame) -> tuple[Column, ...]:
    if table.shape[1] == 0:
        raise CannotPack("the sample has no columns")
    names = _names(table.columns)
    return tuple(_of_series(table.iloc[:, at], name) for at, name in enumerate(names))


def _names(columns: pd.Index[Any]) -> list[str]:
    """The names as texts. Plain numbers, as pandas gives them where nobody named anything, become their digits."""
    for name in columns:
        if not isinstance(name, str | int | np.integer) or isinstance(name, bool):
            raise CannotPack(
                f"column name {name!r} is a {type(name).__name__}; columns are matched by name, and names are texts: "
                "train on a table with text names, or on an array"
            )
    names = [str(name) for name in columns]
    twice = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        raise CannotPack(f"the sample has two columns {twice[0]!r}; give every column its own name")
    return names


def _of_series(series: pd.Series[Any], name: str) -> Column:
    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _of_categories(dtype, name)
    if isinstance(dtype, pd.ArrowDtype):
        return Column(name, _kind_of_arrow(dtype, name), nullable=True, dtype=str(dtype), missing="NA")
    if isinstance(dtype, pd.StringDtype):
        marker: Missing = "NA" if dtype.na_value is pd.NA else "nan"
        return Column(name, Kind.STRING, nullable=True, dtype=str(dtype), missing=marker)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return Column(name, Kind.DATETIME, nullable=True, dtype=str(dtype), missing="NaT")
    if isinstance(dtype, np.dtype):
        return _of_array(np.asarray(series), name)
    if isinstance(getattr(dtype, "numpy_dtype", None), np.dtype) or isinstance(dtype, pd.BooleanDtype):
        inner = np.dtype(bool) if isinstance(dtype, pd.BooleanDtype) else dtype.numpy_dtype
        return Column(name, _kind_of_numpy(inner, name), nullable=True, dtype=str(dtype), missing="NA")
    raise _unsupported(name, dtype)


def _of_categories(dtype: pd.CategoricalDtype, name: str) -> Column:
    values = dtype.categories
    inner = pd.api.types.infer_dtype(values, skipna=True)
    kind = _KINDS_OF_OBJECTS.get(inner)
    if kind is None:
        raise CannotPack(
            f"column {name!r} has categories of type {inner}; categories can be texts, numbers or booleans: "
            "map them to texts before training"
        )
    listed: tuple[Scalar, ...] = tuple(values.astype(object).tolist())
    return Column(name, kind, nullable=True, dtype="category", categories=listed, ordered=bool(dtype.ordered))


def _kind_of_arrow(dtype: Any, name: str) -> Kind:
    if dtype.kind in "biuf":
        return _kind_of_numpy(np.dtype(dtype.numpy_dtype), name)
    if str(dtype) in ("string[pyarrow]", "large_string[pyarrow]"):
        return Kind.STRING
    if str(dtype).startswith("timestamp["):
        return Kind.DATETIME
    raise _unsupported(name, dtype)


def _kind_of_numpy(dtype: np.dtype[Any], name: str) -> Kind:
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return Kind.FLOAT64 if dtype.itemsize == 8 else Kind.FLOAT32
    if dtype.kind in "biu":
        return Kind(dtype.name)
    if dtype.kind == "M":
        return Kind.DATETIME
    if dtype.kind == "U":
        return Kind.STRING
    raise _unsupported(name, dtype)


def _unsupported(name: str, dtype: Any) -> CannotPack:
    return CannotPack(
        f"column {name!r} has dtype {dtype}; columns can be floats, integers, booleans, texts, categories or datetimes"
    )


def _of_array(array: Array, name: str) -> Column:
    """One column of a numpy type; its trailing dimensions are the column's shape."""
    shape = array.shape[1:]
    if array.dtype.kind == "O":
        kind, marker = _kind_of_objects(array, name)
        return Column(name, kind, nullable=True, dtype="object", missing=marker, shape=shape)
    kind = _kind_of_numpy(array.dtype, name)
    dtype = str(array.dtype) if kind is not Kind.STRING else array.dtype.str
    markers: dict[str, Missing] = {"M": "NaT"}
    marker = markers.get(array.dtype.kind, "nan")
    return Column(name, kind, nullable=array.dtype.kind in "fM", dtype=dtype, missing=marker, shape=shape)


def _kind_of_objects(array: Array, name: str) -> tuple[Kind, Missing]:
    flat = array.ravel()
    contents = pd.api.types.infer_dtype(flat, skipna=True)
    kind = _KINDS_OF_OBJECTS.get(contents)
    if kind is None:
        raise CannotPack(f"column {name!r} holds {_found(flat)}; {_REMEDIES.get(contents, 'give it one plain type')}")
    missing = [value for value in flat.tolist() if pd.api.types.is_scalar(value) and pd.isna(value)]
    return kind, _marker(missing)


def _marker(missing: Sequence[Any]) -> Missing:
    """What stands for missing in an object column: the commonest of what is there, None where nothing is."""
    names: dict[int, Missing] = {id(None): "none", id(pd.NA): "NA", id(pd.NaT): "NaT"}
    counted = Counter(names.get(id(value), "nan") for value in missing)
    return counted.most_common(1)[0][0] if counted else "none"


def _found(values: Array) -> str:
    first: dict[str, Any] = {}
    for value in values.tolist():
        if not (pd.api.types.is_scalar(value) and pd.isna(value)):
            first.setdefault(type(value).__name__, value)
    return ", ".join(f"{name} ({str(value)[:30]!r})" for name, value in list(first.items())[:4])


def _with_seen(column: Column, vector: Vector) -> Column:
    return replace(column, seen=_seen(column, vector))


def _seen(column: Column, vector: Vector) -> Seen:
    missing = vector.is_missing()
    present = vector.values[~missing] if missing.shape == vector.values.shape else vector.values.ravel()
    share = float(missing.mean()) if missing.size else 0.0
    seen = Seen(rows=len(vector.values), missing_share=round(share, 6))
    if column.kind in (Kind.STRING, Kind.BOOL) or column.categories is not None:
        counted = Counter(present.tolist())
        return replace(seen, categories=_listed(counted, len(present)), distinct=len(counted))
    if column.kind is Kind.DATETIME:
        if not len(present):
            return seen
        return replace(seen, minimum=str(present.min()), maximum=str(present.max()))
    finite = present[np.isfinite(present)]
    if not len(finite):
        return seen
    return replace(seen, minimum=float(finite.min()), maximum=float(finite.max()))


def _listed(counted: Mapping[Any, int], present: int) -> tuple[Scalar, ...] | None:
    """The distinct values, most frequent first; None where most values are unlike, as in free text and identifiers."""
    if len(counted) > _FEW and len(counted) > present / 2:
        return None
    ordered = sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))
    return tuple(value for value, _ in ordered[:LISTED_CATEGORIES])


def sample_frame(sample: Any, layout: Layout, columns: Sequence[Column]) -> Frame:
    """The sample as a frame of the columns inferred from it."""
    return to_frame(sample, Schema(layout, tuple(columns), ()))
