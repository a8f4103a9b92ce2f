"""Tables, arrays and lists as users have them, to frames by schema; and frames to Arrow and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from modelyard.bundle.cells import fit, has_zone
from modelyard.domain.frame import Array, Frame, Vector
from modelyard.domain.schema import Column, Kind, Schema
from modelyard.errors import InvalidInput

_SHAPE = b"shape"


def to_frame(data: Any, schema: Schema, *, ignore_extra: bool = False) -> Frame:
    """Rows of any usual form as the columns that the model takes.

    Args:
        data: A DataFrame, Series, array, list, list of dicts, dict of columns, or an Arrow table or batch. Columns are
            matched by name where there are names (a number counts as its text); their order does not matter.
        schema: What the model takes.
        ignore_extra: Drop columns that the model does not know. Otherwise they are an error.

    Raises:
        InvalidInput: naming the column, row, what was expected and what came. Whether a missing value, a number out of
            range or an unseen category is taken, is for `modelyard.domain.checks.check` to say.

    >>> schema = Schema("dataframe", (Column("n", Kind.INT64, nullable=False, dtype="int64"),), ())
    >>> to_frame(pd.DataFrame({"n": [1, 2]}), schema)["n"].values
    array([1, 2])
    """
    if isinstance(data, pa.Table | pa.RecordBatch):
        return from_arrow(data, schema, ignore_extra=ignore_extra)
    if schema.layout == "array":
        return _from_matrix(data, schema.columns[0])
    if schema.layout == "series":
        return _from_series_like(data, schema.columns[0])
    if schema.layout == "tensors":
        return _from_tensors(data, schema)
    table = _as_table(data, schema)
    names = [str(name) for name in table.columns]
    _check_names(names, schema, ignore_extra)
    at = {name: position for position, name in enumerate(names)}
    columns = {column.name: from_series(table.iloc[:, at[column.name]], column) for column in schema.columns}
    return Frame(columns, len(table))


def from_series(series: pd.Series[Any], column: Column) -> Vector:
    """One column of a DataFrame.

    Raises:
        InvalidInput: see `to_frame`.
    """
    values, missing = _plain(series, column)
    return fit(values, missing, column)


def to_arrow(frame: Frame, schema: Schema) -> pa.Table:
    """The frame as an Arrow table, one column each; tensors are fixed-size lists, missing is null (NaN in floats).

    >>> schema = Schema("dataframe", (Column("n", Kind.INT64, nullable=True, dtype="Int64"),), ())
    >>> to_arrow(Frame({"n": Vector(np.array([1, 0]), np.array([False, True]))}, 2), schema)["n"].to_pylist()
    [1, None]
    """
    arrays, fields = [], []
    for column in schema.columns:
        vector = frame[column.name]
        array = arrow_array(vector.values, column.kind, vector.missing, zone=has_zone(column.dtype))
        arrays.append(array)
        fields.append(pa.field(column.name, array.type, metadata=_shape_note(vector.values)))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def from_arrow(table: pa.Table | pa.RecordBatch, schema: Schema, *, ignore_extra: bool = False) -> Frame:
    """An Arrow table as the columns that the model takes, matched by name.

    A model of one array also takes a table with one numeric column for each of the array's, in order.

    Raises:
        InvalidInput: see `to_frame`.
    """
    first = schema.columns[0]
    if schema.layout == "array" and first.name not in table.column_names:
        return _from_matrix(_stacked(table, first), first)
    _check_names(table.column_names, schema, ignore_extra)
    columns = {}
    for column in schema.columns:
        field = table.schema.field(column.name)
        columns[column.name] = from_arrow_array(table.column(column.name), column, field.metadata)
    return Frame(columns, table.num_rows)


def arrow_array(values: Array, kind: Kind, missing: NDArray[np.bool_] | None = None, *, zone: bool = False) -> pa.Array:
    """An array of shape ``(rows, *shape)`` as an Arrow array, exact to the last bit."""
    flat = np.ascontiguousarray(values).reshape(-1)
    mask = None if missing is None else np.broadcast_to(_aligned(missing, values), values.shape).reshape(-1)
    array = pa.array(flat, type=_arrow_type(kind, zone), mask=mask, from_pandas=False)
    if values.ndim == 1:
        return array
    width = math.prod(values.shape[1:])
    if width == 0:
        return pa.array([[]] * len(values), pa.list_(array.type))
    return pa.FixedSizeListArray.from_arrays(array, width)


def from_arrow_array(array: Any, column: Column, note: Mapping[bytes, bytes] | None = None) -> Vector:
    """One Arrow column.

    Raises:
        InvalidInput: see `to_frame`.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if column.shape:
        return _from_lists(array, column, note or {})
    values, missing = _unpacked(array, column)
    return fit(values, missing, column)


def _check_names(names: Sequence[str], schema: Schema, ignore_extra: bool) -> None:
    wanted = [column.name for column in schema.columns]
    twice = sorted({name for name in names if names.count(name) > 1} if len(set(names)) != len(names) else ())
    if twice:
        raise InvalidInput(f"column {twice[0]!r} is there more than once; give every column its own name")
    lacking = [name for name in wanted if name not in names]
    unknown = [name for name in names if name not in wanted]
    if lacking:
        known = f"; unknown here: {_listed(unknown)}" if unknown else ""
        raise InvalidInput(
            f"column {lacking[0]!r} is missing; the model takes {_listed(wanted)}{known}", column=lacking[0]
        )
    if unknown and not ignore_extra:
        raise InvalidInput(
            f"unknown column {unknown[0]!r}; the model takes {_listed(wanted)}; leave others out", column=unknown[0]
        )


def _listed(names: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _as_table(data: Any, schema: Schema) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, Mapping):
        return pd.DataFrame({name: _objects(values) for name, values in data.items()})
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        return _from_records(data)
    if isinstance(data, pd.Series) and len(schema.columns) == 1:
        return data.to_frame(data.name if data.name is not None else schema.columns[0].name)
    names = _listed([column.name for column in schema.columns])
    raise InvalidInput(f"expected a table with the columns {names}, got {_what(data)}; give a DataFrame")


def _objects(values: Any) -> Any:
    """A list kept as it is: pandas would make floats of whole numbers beside a None, and texts of their mixture."""
    if not isinstance(values, list | tuple):
        return values
    kept = np.empty(len(values), dtype=object)
    kept[:] = list(values)
    return kept


def _from_records(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    names = list(dict.fromkeys(name for record in records for name in record))
    for row, record in enumerate(records):
        for name in names:
            if name not in record:
                raise InvalidInput(
                    f"column {name!r}, row {row}: absent; send None if the value is unknown", column=name, row=row
                )
    return pd.DataFrame({name: _objects([record[name] for record in records]) for name in names})


def _what(data: Any) -> str:
    if isinstance(data, np.ndarray):
        return f"an array of shape {data.shape}"
    return f"a {type(data).__name__}"


def _plain(series: pd.Series[Any], column: Column) -> tuple[Array, NDArray[np.bool_] | None]:
    """A Series as a numpy array and a mask for what the array itself cannot say."""
    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return np.asarray(series.astype(object), dtype=object), None
    if isinstance(dtype, pd.DatetimeTZDtype):
        _check_zone(True, column)
        return np.asarray(series.dt.tz_convert("UTC").dt.tz_localize(None)), None
    if isinstance(dtype, pd.ArrowDtype):
        return _unpacked(pa.array(series.array, from_pandas=True), column)
    if isinstance(dtype, np.dtype):
        if dtype.kind == "M":
            _check_zone(False, column)
        return np.asarray(series), None
    if isinstance(dtype, pd.StringDtype):
        return np.asarray(series.array.to_numpy(dtype=object, na_value=None)), None
    inner = getattr(dtype, "numpy_dtype", None)
    if inner is not None and inner.kind in "iufb":
        missing = series.isna().to_numpy()
        return series.to_numpy(dtype=inner, na_value=np.nan if inner.kind == "f" else 0), missing
    return np.asarray(series, dtype=object), None


def _check_zone(zoned: bool, column: Column) -> None:
    if column.kind is Kind.DATETIME and zoned != has_zone(column.dtype):
        wanted = f"datetimes with a time zone ({column.dtype})" if not zoned else "datetimes without a time zone"
        raise InvalidInput(
            f"column {column.name!r}: expected {wanted}, got datetimes with{'' if zoned else 'out'} one",
            column=column.name,
        )


def _from_matrix(data: Any, column: Column) -> Frame:
    """Rows of one array: a 2-D array, a list of lists, or a table whose columns are taken in order."""
    values = _matrix(data, column)
    missing = None
    if isinstance(values, tuple):
        values, missing = values
    if values.ndim != len(column.shape) + 1:
        raise InvalidInput(
            f"expected an array of shape {_shape(column)}, got one of shape {values.shape}"
            + ("; for a single row, reshape(1, -1)" if values.ndim == 1 else ""),
            column=column.name,
        )
    if any(want not in (-1, got) for want, got in zip(column.shape, values.shape[1:], strict=True)):
        raise InvalidInput(
            f"expected an array of shape {_shape(column)}, got one of shape {values.shape}", column=column.name
        )
    return Frame({column.name: fit(values, missing, column)}, len(values))


def _shape(column: Column) -> str:
    return f"(rows, {', '.join('any' if size < 0 else str(size) for size in column.shape)})"


def _matrix(data: Any, column: Column) -> Array | tuple[Array, NDArray[np.bool_]]:
    if isinstance(data, pd.DataFrame):
        parts = [from_series(data.iloc[:, at], _element(column, at)) for at in range(data.shape[1])]
        if not parts:
            return np.empty((len(data), 0))
        return (
            np.stack([part.values for part in parts], axis=1),
            np.stack([part.is_missing() for part in parts], axis=1),
        )
    if hasattr(data, "toarray"):
        raise InvalidInput("expected a dense array, got a sparse matrix; give .toarray()", column=column.name)
    try:
        values = data if isinstance(data, np.ndarray) else np.array(_ragged_checked(data), dtype=object)
    except ValueError:
        raise InvalidInput("rows differ in length; every row needs the same number of values") from None
    return values


def _element(column: Column, at: int) -> Column:
    return Column(f"{column.name}[{at}]", column.kind, column.nullable, column.dtype, column.missing)


def _ragged_checked(data: Any) -> Any:
    if not isinstance(data, list | tuple):
        raise InvalidInput(f"expected an array, got {_what(data)}")
    lengths = {len(row) for row in data if isinstance(row, list | tuple | np.ndarray)}
    if len(lengths) > 1:
        raise InvalidInput("rows differ in length; every row needs the same number of values")
    return data


def _from_series_like(data: Any, column: Column) -> Frame:
    """One value a row: a Series, a 1-D array, a list, or a table of one column."""
    if isinstance(data, pd.DataFrame):
        if data.shape[1] != 1:
            raise InvalidInput(f"expected one column, {column.name!r}, got a table of {data.shape[1]}")
        data = data.iloc[:, 0]
    if isinstance(data, Mapping) and list(data) == [column.name]:
        data = data[column.name]
    if isinstance(data, pd.Series):
        return Frame({column.name: from_series(data, column)}, len(data))
    values = data if isinstance(data, np.ndarray) else _objects(data)
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise InvalidInput(f"expected one value a row, got {_what(data)}; give a Series or a list", column=column.name)
    return Frame({column.name: fit(values, None, column)}, len(values))


def _from_tensors(data: Any, schema: Schema) -> Frame:
    if not isinstance(data, Mapping):
        if len(schema.columns) != 1:
            names = _listed([column.name for column in schema.columns])
            raise InvalidInput(f"expected a dict of arrays with the keys {names}, got {_what(data)}")
        data = {schema.columns[0].name: data}
    _check_names(list(data), schema, ignore_extra=False)
    columns = {}
    for column in schema.columns:
        given = data[column.name]
        part = _from_matrix(given, column) if column.shape else _from_series_like(given, column)
        columns[column.name] = part[column.name]
    rows = {len(vector.values) for vector in columns.values()}
    if len(rows) != 1:
        raise InvalidInput(f"the arrays differ in their number of rows: {sorted(rows)}")
    return Frame(columns, rows.pop())


def _arrow_type(kind: Kind, zone: bool) -> pa.DataType:
    if kind is Kind.STRING:
        return pa.string()
    if kind is Kind.DATETIME:
        return pa.timestamp("ns", tz="UTC" if zone else None)
    return pa.bool_() if kind is Kind.BOOL else pa.from_numpy_dtype(kind.numpy)


def _aligned(missing: NDArray[np.bool_], values: Array) -> NDArray[np.bool_]:
    return missing.reshape(missing.shape + (1,) * (values.ndim - missing.ndim))


def _shape_note(values: Array) -> dict[bytes, bytes] | None:
    return {_SHAPE: ",".join(map(str, values.shape[1:])).encode()} if values.ndim > 2 else None


def _stacked(table: Any, column: Column) -> pd.DataFrame:
    width = column.shape[0] if len(column.shape) == 1 else -1
    if table.num_columns != width:
        raise InvalidInput(
            f"expected {width} columns in the order of training, or one list column {column.name!r}; "
            f"got {table.num_columns} columns"
        )
    series = [
        pd.Series(_rejoined(from_arrow_array(table.column(at), _element(column, at))))
        for at in range(table.num_columns)
    ]
    return pd.concat(series, axis=1)


def _rejoined(vector: Vector) -> Any:
    if vector.missing is None:
        return vector.values
    boxed = vector.values.astype(object)
    boxed[vector.missing] = None
    return boxed


def _from_lists(array: Any, column: Column, note: Mapping[bytes, bytes]) -> Vector:
    kind = array.type
    if not (pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise InvalidInput(f"column {column.name!r}: expected a list in every row, got {kind}", column=column.name)
    if array.null_count:
        row = array.is_null().to_pylist().index(True)
        raise InvalidInput(f"column {column.name!r}, row {row}: the whole list is missing", column=column.name, row=row)
    rows = len(array)
    values, missing = _unpacked(array.flatten(), column)
    shape = _row_shape(array, values, column, note)
    if math.prod((rows, *shape)) != values.size or not pa.types.is_fixed_size_list(kind):
        _check_lengths(array, math.prod(shape), column)
    masked = None if missing is None else missing.reshape((rows, *shape))
    return fit(values.reshape((rows, *shape)), masked, column)


def _row_shape(array: Any, values: Array, column: Column, note: Mapping[bytes, bytes]) -> tuple[int, ...]:
    if _SHAPE in note:
        return tuple(int(size) for size in note[_SHAPE].decode().split(","))
    if -1 not in column.shape:
        return column.shape
    known = math.prod(size for size in column.shape if size >= 0)
    each = values.size // max(len(array), 1)
    return tuple(each // known if size < 0 else size for size in column.shape)


def _check_lengths(array: Any, wanted: int, column: Column) -> None:
    for row, value in enumerate(array.to_pylist()):
        if len(value) != wanted:
            raise InvalidInput(
                f"column {column.name!r}, row {row}: expected {wanted} values, got {len(value)}",
                column=column.name,
                row=row,
            )


def _unpacked(array: Any, column: Column) -> tuple[Array, NDArray[np.bool_] | None]:
    """An Arrow array as a numpy array and a mask of its nulls."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), None, dtype=object), None
    if pa.types.is_timestamp(kind):
        _check_zone(kind.tz is not None, column)
        array = array.cast(pa.timestamp(kind.unit))
    if pa.types.is_date(kind):
        array = array.cast(pa.timestamp("s"))
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if pa.types.is_integer(kind):
        return array.fill_null(0).to_numpy(zero_copy_only=False), missing
    if pa.types.is_boolean(kind):
        return array.fill_null(False).to_numpy(zero_copy_only=False), missing
    return array.to_numpy(zero_copy_only=False), missing
