"""From named flat arrays to exactly what training handed over: a DataFrame, an array, a series or tensors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Cells = tuple[Any, Any]
"""One column: an array of values and a mask of the missing ones, or None where the values themselves tell."""

Build = Callable[[Sequence[Cells], int], Any]
"""Makes the estimator's input from the columns in schema order and the number of rows."""


def builder(layout: str, columns: Sequence[Mapping[str, Any]]) -> Build:
    """The function that turns columns into what training had.

    `columns` are the schema's columns as plain data (``name``, ``kind``, ``dtype``, ``missing``, ``categories``,
    ``ordered``, ``shape``). Missing values come in as in a `Vector` and leave as the marker that training had.

    >>> build = builder("array", [{"name": "X", "kind": "float64", "dtype": "float64", "missing": "nan"}])
    >>> build([(np.array([[1.0, 2.0]]), None)], 1)
    array([[1., 2.]])
    """
    if layout == "dataframe":
        return _DataFrame(columns)
    if layout == "array":
        convert = _numpy_converter(columns[0])
        return lambda cells, rows: np.ascontiguousarray(convert(*cells[0]))
    if layout == "series":
        return _series(columns[0])
    if layout == "tensors":
        named = [(column["name"], _numpy_converter(column)) for column in columns]
        return lambda cells, rows: {name: convert(*cell) for (name, convert), cell in zip(named, cells, strict=True)}
    raise ValueError(f"unknown layout {layout!r}; there are: array, dataframe, series, tensors")


Convert = Callable[[Any, Any], Any]
"""Makes one column as training had it from values and mask."""


class _DataFrame:
    """Builds DataFrames block by block: the plain way costs more than many a model does for one row."""

    def __init__(self, columns: Sequence[Mapping[str, Any]]) -> None:
        import pandas as pd

        self._names = pd.Index([column["name"] for column in columns], dtype=object).infer_objects()
        self._index = pd.RangeIndex
        self._one = pd.RangeIndex(1)
        self._frame, self._series = pd.DataFrame, pd.Series
        self._from_blocks = _block_constructor()
        grouped: dict[Any, list[int]] = {}
        self._singles: list[tuple[int, Any, Convert]] = []
        for position, column in enumerate(columns):
            dtype = _dtype(column["dtype"])
            if isinstance(dtype, np.dtype) and dtype.kind != "M":
                grouped.setdefault(dtype, []).append(position)
            else:
                self._singles.append((position, np.array([position]), _extension_converter(column, dtype)))
        self._groups = [
            (positions, np.array(positions), [_numpy_converter(columns[at]) for at in positions])
            for positions in grouped.values()
        ]

    def __call__(self, cells: Sequence[Cells], rows: int) -> Any:
        blocks = [
            (_stacked([convert(*cells[at]) for at, convert in zip(positions, converts, strict=True)], rows), placement)
            for positions, placement, converts in self._groups
        ]
        blocks += [(convert(*cells[at]), placement) for at, placement, convert in self._singles]
        index = self._one if rows == 1 else self._index(rows)
        if self._from_blocks is not None and blocks:
            return self._from_blocks(blocks, index=index, columns=self._names)
        return self._one_by_one(blocks, index)

    def _one_by_one(self, blocks: list[tuple[Any, Any]], index: Any) -> Any:
        arrays: dict[int, Any] = {}
        for block, placement in blocks:
            parts = block if isinstance(block, np.ndarray) else [block]
            arrays.update(zip(placement.tolist(), parts, strict=True))
        columns = {at: self._series(arrays[at], index=index, dtype=arrays[at].dtype) for at in sorted(arrays)}
        frame = self._frame(columns, index=index)
        frame.columns = self._names
        return frame


def _stacked(arrays: list[Any], rows: int) -> Any:
    """Rows of one block; much quicker than ``np.stack`` for single rows."""
    return np.concatenate(arrays).reshape(len(arrays), rows)


def _block_constructor() -> Any:
    """The constructor that pandas 3 offers to libraries, or None with an older pandas."""
    try:
        internals = importlib.import_module("pandas.api.internals")
    except ImportError:
        return None
    return getattr(internals, "create_dataframe_from_blocks", None)


def _series(column: Mapping[str, Any]) -> Build:
    """A pandas Series where the column had a pandas type, else a one-dimensional array."""
    dtype = _dtype(column["dtype"])
    convert = _converter(column, dtype)
    if isinstance(dtype, np.dtype) and dtype.kind not in "OM":
        return lambda cells, rows: convert(*cells[0])
    try:
        import pandas as pd
    except ImportError:
        return lambda cells, rows: convert(*cells[0])
    name = column["name"]
    return lambda cells, rows: pd.Series(convert(*cells[0]), name=name, dtype=dtype, copy=False)


def _dtype(name: str) -> Any:
    """The dtype of that name: numpy's own without needing pandas, else what pandas reads in it."""
    if name != "str":
        try:
            return np.dtype(name)
        except TypeError:
            pass
    from pandas.api.types import pandas_dtype

    return pandas_dtype(name)


def _converter(column: Mapping[str, Any], dtype: Any) -> Convert:
    if isinstance(dtype, np.dtype) and dtype.kind != "M":
        return _numpy_converter(column)
    return _extension_converter(column, dtype)


def _numpy_converter(column: Mapping[str, Any]) -> Convert:
    """To a numpy array of the column's dtype."""
    dtype = np.dtype(column["dtype"])
    if dtype.kind == "O":
        return _object_converter(column)
    if dtype.kind == "f":
        return _float_converter(dtype)
    target = np.dtype(str) if dtype.kind == "U" else dtype
    name = column["name"]

    def convert(values: Any, missing: Any) -> Any:
        if missing is not None and missing.any():
            raise ValueError(f"column {name!r}: a value is missing, which {dtype} cannot express")
        return values if values.dtype == target else values.astype(target)

    return convert


def _float_converter(dtype: Any) -> Convert:
    def convert(values: Any, missing: Any) -> Any:
        if values.dtype != dtype:
            values = values.astype(dtype)
        if missing is not None and missing.any():
            values = np.where(missing, dtype.type(np.nan), values)
        return values

    return convert


def _object_converter(column: Mapping[str, Any]) -> Convert:
    """To Python objects, with the marker that training had where a value is missing."""
    marker = _marker(column["missing"])
    box = _timestamps if column["kind"] == "datetime" else lambda values: values.astype(object)

    def convert(values: Any, missing: Any) -> Any:
        gone = _missing(values) if missing is None else missing
        boxed = values if values.dtype == object else box(values)
        if gone is None or not gone.any() or (marker is None and values.dtype == object):
            return boxed
        marked = boxed.copy()
        marked[gone] = marker
        return marked

    return convert


def _timestamps(values: Any) -> Any:
    import pandas as pd

    boxed = np.empty(values.shape, dtype=object)
    boxed[...] = [pd.Timestamp(value) for value in values.ravel()] if values.ndim == 1 else values
    return boxed


def _marker(missing: str) -> Any:
    if missing == "none":
        return None
    if missing == "nan":
        return np.nan
    import pandas as pd

    return pd.NA if missing == "NA" else pd.NaT


def _missing(values: Any) -> Any:
    """A mask over the values that are missing by themselves; None for kinds that cannot say."""
    if values.dtype.kind == "O":
        return np.array([value is None for value in values.ravel().tolist()], dtype=bool).reshape(values.shape)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.isnat(values) if values.dtype.kind == "M" else None


def _extension_converter(column: Mapping[str, Any], dtype: Any) -> Convert:
    """To an array of a type that pandas defines, or a datetime array."""
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        return _category_converter(column)
    if isinstance(dtype, (np.dtype, pd.DatetimeTZDtype)):
        return _datetime_converter(dtype)
    build = dtype.construct_array_type()
    if issubclass(build, (pd.arrays.IntegerArray, pd.arrays.BooleanArray)):
        return _masked_converter(build, np.dtype(getattr(dtype, "numpy_dtype", bool)))
    if column["kind"] == "datetime":
        return _foreign_datetime_converter(dtype)
    if column["kind"] == "string":
        return lambda values, missing: build._from_sequence(values, dtype=dtype)  # noqa: SLF001

    def convert(values: Any, missing: Any) -> Any:
        gone = _missing(values) if missing is None else missing
        if gone is None or not gone.any():
            return build._from_sequence(values, dtype=dtype)  # noqa: SLF001
        boxed = values.astype(object)
        boxed[gone] = None
        return build._from_sequence(boxed, dtype=dtype)  # noqa: SLF001

    return convert


def _masked_converter(build: Any, inner: Any) -> Convert:
    def convert(values: Any, missing: Any) -> Any:
        typed = values if values.dtype == inner else values.astype(inner)
        return build(typed, np.zeros(len(typed), dtype=bool) if missing is None else missing)

    return convert


def _datetime_converter(dtype: Any) -> Convert:
    import pandas as pd

    zone = getattr(dtype, "tz", None)
    unit = np.datetime_data(dtype)[0] if isinstance(dtype, np.dtype) else dtype.unit

    def convert(values: Any, missing: Any) -> Any:
        moments = values.astype(f"datetime64[{unit}]")
        if missing is not None and missing.any():
            moments[missing] = np.datetime64("NaT")
        index = pd.DatetimeIndex(moments)
        return (index if zone is None else index.tz_localize("UTC").tz_convert(zone)).array

    return convert


def _foreign_datetime_converter(dtype: Any) -> Convert:
    """For Arrow-backed moments and dates; pandas itself converts the units."""
    import pandas as pd

    zoned = getattr(getattr(dtype, "pyarrow_dtype", None), "tz", None) is not None

    def convert(values: Any, missing: Any) -> Any:
        moments = pd.DatetimeIndex(values, tz="UTC" if zoned else None)
        return pd.Series(moments.where(~missing) if missing is not None else moments).astype(dtype).array

    return convert


def _category_converter(column: Mapping[str, Any]) -> Convert:
    """To a Categorical with training's categories first.

    A value that training never saw becomes a category of its own behind them, as it would in a DataFrame that a
    user makes: to turn it into a missing value would hide it from the estimator.
    """
    import pandas as pd

    known = list(column["categories"] or ())
    dtype = pd.CategoricalDtype(pd.Index(known) if known else None, ordered=bool(column["ordered"]))
    codes = {value: code for code, value in enumerate(known)}

    def convert(values: Any, missing: Any) -> Any:
        gone = _missing(values) if missing is None else missing
        listed = values.tolist()
        if gone is not None and gone.any():
            listed = [None if lost else value for value, lost in zip(listed, gone.tolist(), strict=True)]
        found = [-1 if value is None else codes.get(value, -2) for value in listed]
        if -2 not in found:
            return pd.Categorical.from_codes(found, dtype=dtype)
        new = dict.fromkeys(value for value, code in zip(listed, found, strict=True) if code == -2)
        return pd.Categorical(listed, categories=[*known, *new], ordered=bool(column["ordered"]))

    return convert
