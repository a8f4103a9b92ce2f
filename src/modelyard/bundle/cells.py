"""Values of a table's column to those of a `Vector`: exact in the column's kind, or refused by name and row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelyard.domain.frame import Array, Vector
from modelyard.domain.schema import Column, Kind
from modelyard.errors import InvalidInput

_EXACT = {Kind.FLOAT64: 2**53, Kind.FLOAT32: 2**24}
"""Whole numbers up to here are all exact in the type."""

_WORDS = {Kind.BOOL: "true or false", Kind.STRING: "a text", Kind.DATETIME: "a date and time"}


def fit(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Vector:
    """Turn `values` of shape ``(rows, *shape)`` into the column's kind.

    Args:
        values: numbers, booleans, datetimes, texts or objects; under `missing` anything may stand.
        missing: where a value is missing besides NaN, NaT, None and ``pandas.NA``; None: nowhere.
        column: what they have to fit; only name, kind and dtype are looked at.

    Raises:
        InvalidInput: naming the column and the first row whose value is not exact in that kind.

    >>> age = Column("age", Kind.INT8, nullable=True, dtype="Int8")
    >>> fit(np.array([41.0, np.nan]), None, age).is_missing().tolist()
    [False, True]
    >>> fit(np.array([41, 300]), None, age)
    Traceback (most recent call last):
    modelyard.errors.InvalidInput: column 'age', row 1: expected a whole number from -128 to 127 (int8), got 300
    """
    if values.dtype.kind in "OUST":
        values, missing = _opened(values.astype(object, copy=False), missing, column)
    if missing is not None and not missing.any():
        missing = None
    return _FITTERS[column.kind](values, missing, column)


def expected(kind: Kind) -> str:
    """What a column of that kind takes, in words.

    >>> expected(Kind.UINT8)
    'a whole number from 0 to 255 (uint8)'
    """
    if kind.is_integer:
        limits = np.iinfo(kind.numpy)
        return f"a whole number from {limits.min} to {limits.max} ({kind})"
    return f"a number ({kind})" if kind.is_float else _WORDS[kind]


def has_zone(dtype: str) -> bool:
    """Whether the dtype of a training column carries a time zone.

    >>> has_zone("datetime64[ns, UTC]"), has_zone("datetime64[ns]"), has_zone("timestamp[ns, tz=UTC][pyarrow]")
    (True, False, True)
    """
    return (dtype.startswith("datetime64[") and "," in dtype) or "tz=" in dtype


def refuse(column: Column, row: int, value: Any, why: str = "") -> NoReturn:
    """Raise `InvalidInput` for one value."""
    message = f"column {column.name!r}, row {row}: expected {expected(column.kind)}, got {_shown(value)}"
    raise InvalidInput(message + (f": {why}" if why else ""), column=column.name, row=row)


def _shown(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic) and value.dtype.kind != "M" else value
    if isinstance(plain, str):
        return f"the text {plain[:60]!r}" + ("..." if len(plain) > 60 else "")
    if isinstance(plain, bool | int | float):
        return repr(plain)
    return f"{str(plain)[:60]!r} ({type(plain).__name__})"


def _refuse_first(bad: NDArray[np.bool_], values: Array, column: Column, why: str = "") -> NoReturn:
    position = int(bad.ravel().argmax())
    inner = values.size // max(len(values), 1)
    refuse(column, position // max(inner, 1), values.ravel()[position], why)


def _refuse_dtype(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> NoReturn:
    present = np.ones(values.shape, dtype=np.bool_) if missing is None else ~missing
    _refuse_first(present, values, column)


def _opened(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> tuple[Array, NDArray[np.bool_] | None]:
    """Objects as the plain array that their types allow, and where one of the markers for missing stands."""
    gone = np.asarray(pd.isna(values))
    if missing is not None:
        gone = gone | missing
    there = values[~gone].tolist()
    types = {type(value) for value in there}
    target = _plain_dtype(types, column.kind)
    if target is None:
        return values, gone
    plain = np.zeros(values.shape, dtype=target)
    try:
        plain[~gone] = there
    except OverflowError:
        return values, gone
    return plain, gone


def _plain_dtype(types: set[type], kind: Kind) -> Any:
    """The numpy type that holds all of `types` without loss; None leaves objects as they are."""
    if kind is Kind.STRING or kind is Kind.DATETIME:
        return None
    if not types:
        return kind.numpy
    if all(issubclass(each, bool | np.bool_) for each in types):
        return np.bool_
    if any(issubclass(each, bool | np.bool_) for each in types):
        return None
    if all(issubclass(each, int | np.integer) for each in types):
        return np.int64 if kind is not Kind.UINT64 else np.uint64
    if all(issubclass(each, float | np.floating) for each in types):
        return np.float64
    return None


def _fit_float(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Vector:
    target = column.kind.numpy
    if values.dtype.kind == "O":
        values = _numbers(values, missing, column)
    if values.dtype.kind in "iu":
        _check_exact(values, missing, column)
    elif values.dtype.kind != "f":
        _refuse_dtype(values, missing, column)
    with np.errstate(over="ignore"):
        cast = values.astype(target)
    if cast.dtype.itemsize < values.dtype.itemsize:
        lost = np.isinf(cast) & ~np.isinf(values)
        if missing is not None:
            lost &= ~missing
        if lost.any():
            _refuse_first(lost, values, column, f"out of the range of {column.kind}")
    if missing is not None:
        cast[missing] = np.nan
    return Vector(cast)


def _numbers(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Array:
    """Whole and other numbers mixed in one object column, as doubles; anything else is refused."""
    gone = np.zeros(values.shape, dtype=np.bool_) if missing is None else missing

    def unfit(value: Any) -> bool:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
            return True
        return isinstance(value, int | np.integer) and not _is_exact(int(value), column.kind)

    bad = _where(unfit, values, gone)
    if bad.any():
        _refuse_first(bad, values, column)
    plain = np.full(values.shape, np.nan)
    plain[~gone] = values[~gone].astype(np.float64)
    return plain


def _is_exact(value: int, kind: Kind) -> bool:
    if abs(value) <= _EXACT[kind]:
        return True
    try:
        back = kind.numpy.type(value)
    except OverflowError:
        return False
    return bool(np.isfinite(back)) and int(back) == value


def _check_exact(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> None:
    limit = _EXACT[column.kind]
    large = (values > limit) | (values < -limit) if values.dtype.kind == "i" else values > limit
    if missing is not None:
        large = large & ~missing
    if not large.any():
        return
    bad = _where(lambda value: not _is_exact(int(value), column.kind), values, ~large)
    if bad.any():
        _refuse_first(bad, values, column, f"this whole number is not exact in {column.kind}")


def _fit_integer(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Vector:
    if values.dtype.kind == "O":
        values, missing = _whole_numbers(values, missing, column)
    if values.dtype.kind == "f":
        gone = np.isnan(values)
        missing = gone if missing is None else gone | missing
        values = np.where(missing, 0.0, values)
        # A double above 2**53 may already have lost digits of the number that was meant.
        bad = ~np.isfinite(values) | (values != np.trunc(values)) | (np.abs(values) > 2**53)
        if bad.any():
            _refuse_first(bad, values, column)
        values = values.astype(np.int64)
    elif values.dtype.kind not in "iu":
        _refuse_dtype(values, missing, column)
    return _in_range(values, missing, column)


def _whole_numbers(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> tuple[Array, NDArray[np.bool_]]:
    """Mixed or large numbers in an object column, one by one."""
    gone = np.zeros(values.shape, dtype=np.bool_) if missing is None else missing
    limits = np.iinfo(column.kind.numpy)

    def unfit(value: Any) -> bool:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
            return True
        if isinstance(value, float | np.floating) and not (abs(float(value)) <= 2**53 and float(value).is_integer()):
            return True
        return not limits.min <= int(value) <= limits.max

    bad = _where(unfit, values, gone)
    if bad.any():
        _refuse_first(bad, values, column)
    plain = np.zeros(values.shape, dtype=column.kind.numpy)
    plain[~gone] = [int(value) for value in values[~gone].tolist()]
    return plain, gone


def _in_range(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Vector:
    limits = np.iinfo(column.kind.numpy)
    if missing is not None:
        values = np.where(missing, np.zeros((), values.dtype), values)
    bad = np.zeros(values.shape, dtype=np.bool_)
    if np.iinfo(values.dtype).min < limits.min:
        bad |= values < limits.min
    if np.iinfo(values.dtype).max > limits.max:
        bad |= values > limits.max
    if bad.any():
        _refuse_first(bad, values, column)
    masked = missing if missing is not None and missing.any() else None
    return Vector(values.astype(column.kind.numpy, copy=False), masked)


def _fit_bool(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Vector:
    if values.dtype.kind != "b":
        if values.size and not (missing is not None and missing.all()) and not _all_nan(values):
            _refuse_dtype(values, missing if missing is not None else _nan(values), column)
        return Vector(np.zeros(values.shape, dtype=np.bool_), np.ones(values.shape, dtype=np.bool_))
    if missing is not None:
        values = values & ~missing
    return Vector(values, missing)


def _nan(values: Array) -> NDArray[np.bool_] | None:
    return np.isnan(values) if values.dtype.kind == "f" else None


def _all_nan(values: Array) -> bool:
    nan = _nan(values)
    return nan is not None and bool(nan.all())


def _fit_string(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Vector:
    if values.dtype.kind != "O":
        if not _all_nan(values):
            _refuse_dtype(values, missing if missing is not None else _nan(values), column)
        return Vector(np.full(values.shape, None, dtype=object))
    flat = values.ravel().tolist()
    types = {type(value) for value in flat}
    if missing is None and types <= {str}:
        return Vector(values)
    gone = np.zeros(values.shape, dtype=np.bool_) if missing is None else missing
    bad = _where(lambda value: not isinstance(value, str), values, gone)
    if bad.any():
        _refuse_first(bad, values, column)
    plain = np.full(values.shape, None, dtype=object)
    # Subclasses such as numpy's become plain texts.
    plain[~gone] = [str(value) for value in values[~gone].tolist()]
    return Vector(plain)


def _fit_datetime(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Vector:
    if values.dtype.kind == "O":
        values = _moments(values, missing, column)
    if values.dtype.kind != "M":
        if not _all_nan(values):
            _refuse_dtype(values, missing if missing is not None else _nan(values), column)
        return Vector(np.full(values.shape, np.datetime64("NaT", "ns")))
    moments = values.astype("datetime64[ns]")
    lost = (moments.astype(values.dtype) != values) & ~np.isnat(values)
    if lost.any():
        _refuse_first(lost, values, column, "it must lie between 1678 and 2262")
    if missing is not None:
        moments[missing] = np.datetime64("NaT")
    return Vector(moments)


def _moments(values: Array, missing: NDArray[np.bool_] | None, column: Column) -> Array:
    """Datetime objects and ISO 8601 texts as datetimes, in UTC where the column has a time zone."""
    zoned = has_zone(column.dtype)
    gone = np.asarray(pd.isna(values)) if missing is None else missing
    moments = np.full(values.shape, np.datetime64("NaT", "ns"))
    for position in np.flatnonzero(~gone.ravel()).tolist():
        value = values.ravel()[position]
        if isinstance(value, int | float | np.number):
            refuse(column, position * len(values) // values.size, value)
        try:
            moments.ravel()[position] = _in_utc(pd.Timestamp(value), zoned).to_datetime64()
        except (ValueError, TypeError, OverflowError) as error:
            refuse(column, position * len(values) // values.size, value, str(error))
    return moments


def _in_utc(moment: pd.Timestamp, zoned: bool) -> pd.Timestamp:
    if zoned != (moment.tzinfo is not None):
        raise ValueError("a time zone is needed, such as Z" if zoned else "training had no time zone")
    return (moment.tz_convert("UTC").tz_localize(None) if zoned else moment).as_unit("ns")


def _where(unfit: Callable[[Any], bool], values: Array, skip: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Elements, other than those of `skip`, for which `unfit` holds."""
    pairs = zip(values.ravel().tolist(), skip.ravel().tolist(), strict=True)
    return np.array([not skipped and unfit(value) for value, skipped in pairs], dtype=np.bool_).reshape(values.shape)


_FITTERS: dict[Kind, Callable[[Array, NDArray[np.bool_] | None, Column], Vector]] = {
    **{kind: _fit_integer for kind in Kind if kind.is_integer},
    Kind.FLOAT32: _fit_float,
    Kind.FLOAT64: _fit_float,
    Kind.BOOL: _fit_bool,
    Kind.STRING: _fit_string,
    Kind.DATETIME: _fit_datetime,
}
