"""JSON values to typed columns and back. Nothing is cast silently: a value is exact in its column or refused by name.

Missing is null, or the bare word NaN, whatever the column's kind; whether the model takes a missing value is for
`modelyard.domain.checks` to say, after all columns are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import prod
from typing import Any, NoReturn, TypeAlias

import numpy as np

from modelyard.domain.frame import Array, Vector
from modelyard.domain.schema import Column, Kind, Scalar
from modelyard.errors import InvalidInput

Values = Sequence[Any]
"""JSON scalars: None, bool, int, float or str."""

_EXACT = {Kind.FLOAT64: 2**53, Kind.FLOAT32: 2**24}
"""Whole numbers up to here are all exact in the type."""

Reader: TypeAlias = Callable[[Values, int], Vector]
"""Reads the leaves of one column; the number is that of leaves a row. Raises `InvalidInput`."""

_PLAIN: dict[Kind, type] = {Kind.FLOAT64: float, Kind.STRING: str, Kind.BOOL: bool}
"""Kinds that take every value of one Python type as it is."""

_EXPECTED = {Kind.BOOL: "true or false", Kind.STRING: "a text", Kind.DATETIME: "a date and time (ISO 8601 text)"}

_NONE: type = type(None)


def read_values(values: Values, column: Column, inner: int = 1) -> Vector:
    """One column from its JSON values.

    Args:
        values: The leaves in row-major order.
        column: What they have to fit; only name, kind and dtype are looked at.
        inner: Number of leaves a row; 1 for a plain column. The vector's shape is ``(leaves,)`` in any case.

    Raises:
        InvalidInput: naming the column and row of the first value that does not fit exactly.

    >>> age = Column("age", Kind.INT8, nullable=True, dtype="Int8")
    >>> read_values([41, None], age).is_missing().tolist()
    [False, True]
    >>> read_values([41, 300], age)
    Traceback (most recent call last):
    modelyard.errors.InvalidInput: column 'age', row 1: expected a whole number from -128 to 127 (int8), got 300
    """
    return reader_of(column)(values, inner)


def reader_of(column: Column) -> Reader:
    """What `read_values` does, prepared for one column. Made once a version, since most requests have one row.

    >>> reader_of(Column("age", Kind.INT8, nullable=True, dtype="Int8"))([41], 1).values
    array([41], dtype=int8)
    """
    read, dtype, plain = _READERS[column.kind], column.kind.numpy, _PLAIN.get(column.kind)

    def read_any(values: Values, inner: int) -> Vector:
        if plain is not None and len(values) == 1 and type(values[0]) is plain:
            return Vector(np.array(values, dtype))
        try:
            return read(values, column)
        except _Misfit as misfit:
            _refuse(column, misfit.position // inner, misfit.value, misfit.why)

    return read_any


def write_values(array: Array, dtype: str = "") -> list[Any]:
    """An array of any shape as a flat list of JSON scalars in row-major order.

    Missing and not-a-number stay as they are in floats (the JSON writer decides about them) and become None in texts
    and datetimes. Datetimes become ISO 8601 text, with a ``Z`` when `dtype` has a time zone.

    >>> write_values(np.array(["2013-01-01T05:15"], dtype="datetime64[ns]"))
    ['2013-01-01T05:15:00.000000000']
    """
    if array.dtype.kind != "M":
        return array.ravel().tolist()
    zone = "Z" if has_zone(dtype) else ""
    flat = array.ravel()
    texts = np.datetime_as_string(flat.astype("datetime64[ns]")).tolist()
    return [None if missing else text + zone for text, missing in zip(texts, np.isnat(flat).tolist(), strict=True)]


def has_zone(dtype: str) -> bool:
    """Whether the dtype of a training column carries a time zone.

    >>> has_zone("datetime64[ns, UTC]"), has_zone("datetime64[ns]")
    (True, False)
    """
    return (dtype.startswith("datetime64[") and "," in dtype) or "tz=" in dtype


def expected(kind: Kind) -> str:
    """What a column of that kind takes, in words.

    >>> expected(Kind.UINT8)
    'a whole number from 0 to 255 (uint8)'
    """
    if kind.is_integer:
        limits = np.iinfo(kind.numpy)
        return f"a whole number from {limits.min} to {limits.max} ({kind})"
    return f"a number ({kind})" if kind.is_float else _EXPECTED[kind]


def shown(value: Any) -> str:
    """A value in an error message: its type where the text alone would not say it, and its beginning.

    >>> shown("3.5"), shown(None), shown(True)
    ("the text '3.5'", 'null', 'true')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value[:60]!r}" + ("..." if len(value) > 60 else "")
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, dict) else str(value)[:60]


def class_key(label: Scalar) -> str:
    """The name of a class as a member of a JSON object.

    >>> [class_key(label) for label in ("late", 3, True)]
    ['late', '3', 'true']
    """
    if isinstance(label, bool):
        return "true" if label else "false"
    return str(label)


class _Misfit(Exception):
    """A value that does not fit, and its position among the leaves."""

    def __init__(self, position: int, value: Any, why: str = "") -> None:
        self.position, self.value, self.why = position, value, why
        super().__init__()


def _refuse(column: Column, row: int, value: Any, why: str) -> NoReturn:
    message = f"column {column.name!r}, row {row}: expected {expected(column.kind)}, got {shown(value)}"
    raise InvalidInput(message + (f": {why}" if why else ""), column=column.name, row=row)


def _is_nan(value: Any) -> bool:
    return type(value) is float and value != value


def _first_of_other_type(values: Values, allowed: set[type]) -> NoReturn:
    position = next(index for index, value in enumerate(values) if type(value) not in allowed)
    raise _Misfit(position, values[position])


def _first(values: Values, misfits: Callable[[Any], bool], why: str = "") -> None:
    for position, value in enumerate(values):
        if misfits(value):
            raise _Misfit(position, value, why)


_NUMBERS: set[type] = {float, int, _NONE}


def _read_float(values: Values, column: Column) -> Vector:
    types = set(map(type, values))
    if not types <= _NUMBERS:
        _first_of_other_type(values, _NUMBERS)
    kind = column.kind
    if int in types:
        _check_whole_numbers_exact(values, kind)
    array = np.array(values, dtype=np.float64)
    return Vector(array if kind is Kind.FLOAT64 else narrowed(array, values))


def _check_whole_numbers_exact(values: Values, kind: Kind) -> None:
    limit, to_float = _EXACT[kind], kind.numpy.type

    def inexact(value: Any) -> bool:
        if type(value) is not int or -limit <= value <= limit:
            return False
        try:
            return not _is_exact(to_float(value), value)
        except OverflowError:
            return True

    with np.errstate(over="ignore"):
        _first(values, inexact, f"this whole number is not exact in {kind}")


def _is_exact(number: Any, value: int) -> bool:
    return bool(np.isfinite(number)) and int(number) == value


def narrowed(array: Array, values: Values) -> Array:
    """Doubles as single precision, rounded; raises for finite ones beyond its range."""
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    lost = np.isinf(single) & np.isfinite(array)
    if lost.any():
        position = int(lost.argmax())
        raise _Misfit(position, values[position], "out of the range of float32")
    return single


def _read_integer(values: Values, column: Column) -> Vector:
    types = set(map(type, values))
    missing = None
    if types != {int} and types:
        if not types <= _NUMBERS:
            _first_of_other_type(values, _NUMBERS)
        values, missing = _whole_numbers(values)
    try:
        return Vector(np.array(values, dtype=column.kind.numpy), missing)
    except OverflowError:
        limits = np.iinfo(column.kind.numpy)
        _first(values, lambda value: not limits.min <= value <= limits.max)
        raise  # pragma: no cover


def _whole_numbers(values: Values) -> tuple[list[int], Array | None]:
    """Integers with zero where something is missing, and the mask of that; 3.0 counts as a whole number."""
    missing = np.array([value is None or _is_nan(value) for value in values], dtype=np.bool_)
    _first(values, _has_fraction)
    whole = [0 if gone else int(value) for value, gone in zip(values, missing.tolist(), strict=True)]
    return whole, missing if missing.any() else None


def _has_fraction(value: Any) -> bool:
    # A double above 2**53 may already have lost the digits that the sender wrote.
    return type(value) is float and value == value and not (value.is_integer() and abs(value) <= 2**53)


def _read_bool(values: Values, column: Column) -> Vector:
    types = set(map(type, values))
    if types <= {bool}:
        return Vector(np.array(values, dtype=np.bool_))
    _first(values, lambda value: not (value is None or type(value) is bool or _is_nan(value)))
    missing = [type(value) is not bool for value in values]
    return Vector(np.array([value is True for value in values]), np.array(missing))


def _read_text(values: Values, column: Column) -> Vector:
    if not set(map(type, values)) <= {str, _NONE}:
        _first(values, lambda value: not (value is None or type(value) is str or _is_nan(value)))
        values = [value if type(value) is str else None for value in values]
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return Vector(array)


_DATETIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _read_datetime(values: Values, column: Column) -> Vector:
    zoned = has_zone(column.dtype)
    ticks = np.empty(len(values), dtype=np.int64)
    for position, value in enumerate(values):
        ticks[position] = _nanoseconds(position, value, zoned)
    return Vector(ticks.view("datetime64[ns]"))


_NAT = -(2**63)


def _nanoseconds(position: int, value: Any, zoned: bool) -> int:
    if value is None or _is_nan(value):
        return _NAT
    match = _DATETIME.fullmatch(value) if type(value) is str else None
    if match is None:
        raise _Misfit(position, value)
    day, minute, second, fraction, zone = match.groups()
    if zoned != (zone is not None):
        raise _Misfit(position, value, "a time zone is needed, such as Z" if zoned else "training had no time zone")
    try:
        offset = "+00:00" if zone in (None, "Z") else zone
        moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}{offset}")
    except ValueError as error:
        raise _Misfit(position, value, str(error)) from None
    ticks = (moment - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "0").ljust(9, "0"))
    if not _NAT < ticks < 2**63:
        raise _Misfit(position, value, "it must lie between 1678 and 2262")
    return ticks


_READERS: dict[Kind, Callable[[Values, Column], Vector]] = {
    **{kind: _read_integer for kind in Kind if kind.is_integer},
    Kind.FLOAT32: _read_float,
    Kind.FLOAT64: _read_float,
    Kind.BOOL: _read_bool,
    Kind.STRING: _read_text,
    Kind.DATETIME: _read_datetime,
}


def convert(vector: Vector, sent: Kind, column: Column, inner: int = 1) -> Vector:
    """A column that was sent as another kind, if every value is exact in the column's own.

    Raises:
        InvalidInput: naming the first value that is not, or that kinds cannot be exchanged at all.

    >>> convert(Vector(np.array([3.0, np.nan])), Kind.FLOAT64, Column("n", Kind.INT32, True, "Int32")).values.tolist()
    [3, 0]
    """
    if sent is column.kind:
        return vector
    if not _is_number(sent) or not _is_number(column.kind):
        raise InvalidInput(
            f"column {column.name!r}: expected {expected(column.kind)}, got a tensor of {sent}", column=column.name
        )
    values = np.zeros_like(vector.values) if vector.missing is not None else vector.values
    if vector.missing is not None:
        np.copyto(values, vector.values, where=~vector.missing)
    return _converted(vector, values, sent, column, inner)


def _is_number(kind: Kind) -> bool:
    return kind.is_integer or kind.is_float


def _converted(vector: Vector, values: Array, sent: Kind, column: Column, inner: int) -> Vector:
    missing = vector.is_missing()
    if column.kind.is_integer:
        values = np.where(missing, np.zeros((), values.dtype), values)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(column.kind.numpy)
        back = cast.astype(values.dtype)
    same = (back == values) & ((cast < 0) == (values < 0)) & _inside(values, column.kind) & _inside(cast, sent)
    wrong = ~(same | missing)
    if wrong.any():
        position = int(wrong.argmax())
        _refuse(column, position // inner, vector.values[position].item(), f"it was sent as {sent} and is not exact")
    if column.kind.is_integer:
        return Vector(cast, missing if missing.any() else None)
    cast[missing] = np.nan
    return Vector(cast)


def _inside(values: Array, kind: Kind) -> Array:
    """Where floats are in the range of an integer kind, so that no cast between them wraps; else true everywhere."""
    if not kind.is_integer or values.dtype.kind != "f":
        return np.ones(values.shape, dtype=np.bool_)
    limits = np.iinfo(kind.numpy)
    inside: Array = (values >= float(limits.min)) & (values < float(limits.max) + 1.0)
    return inside


def flatten(data: Sequence[Any], shape: Sequence[int], what: str) -> Sequence[Any]:
    """The leaves of `data`, which is flat or nested to `shape`, in row-major order.

    Raises:
        InvalidInput: when the number of leaves or the nesting does not fit.

    >>> flatten([[1, 2], [3, 4]], (2, 2), "tensor 'x'")
    [1, 2, 3, 4]
    """
    count = prod(shape)
    if not any(type(item) is list for item in data):
        if len(data) != count:
            raise InvalidInput(f"{what}: shape {list(shape)} has {count} elements, data has {len(data)}")
        return data
    level: list[Any] = [data]
    for depth, size in enumerate(shape):
        position = next((index for index, part in enumerate(level) if type(part) is not list or len(part) != size), -1)
        if position >= 0:
            came = f"{len(level[position])} elements" if type(level[position]) is list else shown(level[position])
            raise InvalidInput(
                f"{what}: data is neither flat nor nested to shape {list(shape)}: part {position} at depth {depth} "
                f"should have {size} elements, got {came}"
            )
        level = [item for part in level for item in part]
    if any(type(item) is list for item in level):
        raise InvalidInput(f"{what}: data is nested deeper than shape {list(shape)}")
    return level
