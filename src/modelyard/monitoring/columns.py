"""Tables as users have them, to columns that can be counted: one at a time, so that little memory is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from modelyard.domain.frame import Array, Frame, Vector
from modelyard.errors import InvalidRequest

Sort: TypeAlias = Literal["numbers", "values", "other"]
"""How a column is counted: by size, by name, or not at all."""


@dataclass(frozen=True, slots=True)
class Tallied:
    """Different values, how often each occurs, and how many are missing."""

    distinct: Sequence[Any]
    occurring: Array
    missing: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column: how it can be counted, what its library calls its type, and its values in that library's form."""

    sort: Sort
    type: str
    values: Any

    @property
    def family(self) -> str:
        """What it is, whatever a library calls it: numbers, moments, truth values, texts or other."""
        if self.sort == "numbers":
            return "moments" if self.type.startswith(("date", "timestamp", "timedelta")) else "numbers"
        return "truth values" if self.type.startswith("bool") else "texts" if self.sort == "values" else "other"

    def numbers(self) -> Array:
        """Its values as floats with NaN for missing; moments in time as seconds since 1970.

        Raises:
            InvalidRequest: they are no numbers.
        """
        try:
            return _numbers(self.values)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"a column of type {self.type} cannot be read as numbers: {error}") from error

    def tallied(self) -> Tallied:
        """Its different values and how often they occur."""
        return _tallied(self.values)

    def coded(self) -> tuple[list[Any], Array]:
        """Its different values, and for each row which of them it has; -1 where it is missing."""
        return _coded(self.values)


class Table:
    """A table by columns. Only what is asked for is converted."""

    def __init__(self, rows: int, columns: Mapping[str, Column]) -> None:
        self.rows = rows
        self.columns = columns


def table_of(data: Any) -> Table:
    """A pandas or Polars DataFrame, an Arrow table, a `Frame`, or a mapping of names to values, as columns.

    Raises:
        InvalidRequest: it is none of these, or has two columns of one name.

    >>> table_of({"n": np.array([1.0, 2.0]), "text": ["a", None]}).columns["text"].sort
    'values'
    """
    import pandas as pd
    import pyarrow as pa

    if isinstance(data, Frame):
        named: list[tuple[str, Any]] = list(_frame_columns(data))
        return Table(data.rows, {name: Column(_sort_of(each), str(each.values.dtype), each) for name, each in named})
    if hasattr(data, "to_arrow"):
        data = data.to_arrow()
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, Mapping):
        data = pd.DataFrame(dict(data))
    if isinstance(data, pa.Table):
        named = list(zip(data.column_names, data.columns, strict=True))
        rows = data.num_rows
    elif isinstance(data, pd.DataFrame):
        named = [(str(name), data.iloc[:, at]) for at, name in enumerate(data.columns)]
        rows = len(data)
    else:
        raise InvalidRequest(f"{type(data).__name__} is no table; give a DataFrame, an Arrow table or a file")
    twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
    if twice:
        raise InvalidRequest(f"there are several columns {twice[0]!r}; names have to differ")
    return Table(rows, {name: _column(values) for name, values in named})


def _frame_columns(frame: Frame) -> Iterator[tuple[str, Vector]]:
    """Plain columns as they are, of arrays each position as a column of its own."""
    for name, vector in frame.columns.items():
        if vector.values.ndim == 1:
            yield name, vector
            continue
        flat = vector.values.reshape(frame.rows, -1)
        gone = None if vector.missing is None else vector.missing.reshape(frame.rows, -1)
        for at in range(flat.shape[1]):
            yield f"{name}[{at}]", Vector(flat[:, at], None if gone is None else gone[:, at])


def _sort_of(vector: Vector) -> Sort:
    return "numbers" if vector.values.dtype.kind in "iufM" else "values"


def _column(values: Any) -> Column:
    import pandas as pd
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        return Column(_arrow_sort(values.type), str(values.type), values)
    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return Column("values", "category", values)
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_string_dtype(kind):
        return Column(_object_sort(values) if kind.kind == "O" else "values", str(kind), values)
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        return Column("numbers", str(kind), values)
    if pd.api.types.is_datetime64_any_dtype(kind) or pd.api.types.is_timedelta64_dtype(kind):
        return Column("numbers", str(kind), values)
    return Column(_object_sort(values) if kind.kind == "O" else "other", str(kind), values)


def _object_sort(values: Any) -> Sort:
    """Of a column of Python objects, what they look like."""
    import pandas as pd

    found = pd.api.types.infer_dtype(values, skipna=True)
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "numbers"
    return "values" if found in ("string", "boolean", "empty", "categorical") else "other"


def _arrow_sort(kind: Any) -> Sort:
    import pyarrow.types as types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner) or types.is_boolean(inner):
        return "values"
    numeric = types.is_integer(inner) or types.is_floating(inner) or types.is_decimal(inner)
    if not types.is_dictionary(kind) and (numeric or types.is_timestamp(inner) or types.is_date(inner)):
        return "numbers"
    return "values" if types.is_dictionary(kind) and numeric else "other"


def _numbers(values: Any) -> Array:
    import pandas as pd
    import pyarrow as pa

    if isinstance(values, Vector):
        return _vector_numbers(values)
    if isinstance(values, pa.ChunkedArray):
        return _arrow_numbers(values)
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or pd.api.types.is_timedelta64_dtype(values.dtype):
        return _seconds(np.asarray(values.to_numpy(dtype="M8[ns]" if values.dtype.kind == "M" else "m8[ns]")))
    found: Array = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _vector_numbers(vector: Vector) -> Array:
    if vector.values.dtype.kind == "M":
        return _seconds(vector.values)
    found = vector.values.astype(np.float64, copy=False)
    if vector.missing is None or not vector.missing.any():
        return found
    return np.where(vector.missing, np.nan, found)


def _arrow_numbers(values: Any) -> Array:
    import pyarrow as pa
    import pyarrow.types as types

    if types.is_date(values.type):
        values = values.cast(pa.timestamp("ns"))
    if types.is_timestamp(values.type):
        return _seconds(values.to_numpy().astype("M8[ns]"))
    found: Array = values.cast(pa.float64(), safe=False).to_numpy()
    return found


def _seconds(moments: Array) -> Array:
    """As floats; nanoseconds are rounded to what a float holds."""
    found = moments.astype("int64") / 1e9
    found[np.isnat(moments)] = np.nan
    return found


def _tallied(values: Any) -> Tallied:
    import pandas as pd
    import pyarrow as pa

    if isinstance(values, Vector):
        gone = values.is_missing()
        return _counted(values.values[~gone].tolist(), int(gone.sum()))
    if isinstance(values, pa.ChunkedArray):
        return _arrow_tallied(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = np.bincount(values.cat.codes.to_numpy().astype(np.int64) + 1, minlength=len(values.cat.categories) + 1)
        return _there(values.cat.categories.tolist(), codes[1:], int(codes[0]))
    if values.dtype == object:
        gone = values.isna().to_numpy()
        return _counted(values.to_numpy()[~gone].tolist(), int(gone.sum()))
    if values.dtype == np.bool_:
        true = int(values.to_numpy().sum())
        return _there([False, True], np.array([len(values) - true, true]), 0)
    # Of a table that was read from a file in pieces this is chunked already, and must not be taken for a sequence.
    array = pa.array(values, from_pandas=True)
    return _arrow_tallied(array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]))


def _coded(values: Any) -> tuple[list[Any], Array]:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, Vector):
        codes, distinct = pd.factorize(values.values)
        return distinct.tolist(), codes if values.missing is None else np.where(values.missing, -1, codes)
    if isinstance(values, pa.ChunkedArray):
        encoded = pc.dictionary_encode(values).combine_chunks() if not pa.types.is_dictionary(values.type) else values
        encoded = encoded.unify_dictionaries().combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        return encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy()
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.categories.tolist(), values.cat.codes.to_numpy()
    codes, distinct = pd.factorize(values.to_numpy() if values.dtype == object else values)
    return list(distinct), codes


def _counted(present: list[Any], missing: int) -> Tallied:
    counted = Counter(present)
    return Tallied(list(counted), np.fromiter(counted.values(), dtype=np.int64, count=len(counted)), missing)


def _arrow_tallied(values: Any) -> Tallied:
    import pyarrow.compute as pc

    counted = pc.value_counts(values)
    distinct, occurring = counted.field("values"), counted.field("counts").to_numpy().astype(np.int64)
    if hasattr(distinct, "dictionary_decode"):
        distinct = distinct.dictionary_decode()
    gone = distinct.is_null().to_numpy(zero_copy_only=False)
    missing = int(occurring[gone].sum())
    return Tallied(distinct.drop_null().to_pylist(), occurring[~gone], missing)


def _there(distinct: list[Any], occurring: Array, missing: int) -> Tallied:
    """Without values that never occur."""
    kept = np.flatnonzero(occurring)
    return Tallied([distinct[at] for at in kept], occurring[kept].astype(np.int64), missing)
