"""The one place that decides whether rows fit a model: missing values, ranges, infinities, closed categories.

Every entrance calls `check` after it has turned its own notation into a `Frame` and before any runtime computes, so
that a row is taken or refused by the same rule and with the same words online, in bulk and in a notebook.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Frame, Vector
from modelyard.domain.schema import Column, Kind, PerSchema, Scalar, Schema
from modelyard.errors import InvalidInput

Mask: TypeAlias = NDArray[np.bool_]

_NAMED_CATEGORIES = 12


def check(frame: Frame, schema: Schema) -> None:
    """Let `frame` pass if every value is one that the model takes.

    A single row of plain columns costs well under a microsecond a column; more rows are checked by column.

    Raises:
        InvalidInput: naming the column, the row (from 0), what was expected and what came.

    >>> temp = Column("temp", Kind.FLOAT64, nullable=False, dtype="float64")
    >>> schema = Schema("dataframe", (temp,), ())
    >>> check(Frame({"temp": Vector(np.array([21.5]))}, rows=1), schema)
    >>> check(Frame({"temp": Vector(np.array([21.5, np.nan]))}, rows=2), schema)
    Traceback (most recent call last):
    ...
    modelyard.errors.InvalidInput: column 'temp', row 1: a value is missing; this model needs a finite number here
    """
    columns = frame.columns
    if frame.scalars is not None:
        for rule, value in zip(_rules(schema), frame.scalars, strict=True):
            if not rule.takes_one(value):
                _refuse(rule, columns[rule.column.name])
        return
    for rule in _rules(schema):
        if not rule.takes_all(columns[rule.column.name]):
            _refuse(rule, columns[rule.column.name])


def offences(frame: Frame, schema: Schema) -> dict[int, str]:
    """Every row that `check` would refuse, with the first reason for each.

    >>> temp = Column("temp", Kind.FLOAT64, nullable=False, dtype="float64")
    >>> offences(Frame({"temp": Vector(np.array([1.0, np.inf]))}, rows=2), Schema("dataframe", (temp,), ()))
    {1: "column 'temp', row 1: got inf, expected a finite number"}
    """
    found: dict[int, str] = {}
    for rule in _rules(schema):
        vector = frame.columns[rule.column.name]
        if rule.takes_all(vector):
            continue
        for row in np.flatnonzero(rule.refused(vector)).tolist():
            found.setdefault(row, rule.explain(vector, row))
    return dict(sorted(found.items()))


def _refuse(rule: _Rule, vector: Vector) -> None:
    row = int(np.flatnonzero(rule.refused(vector))[0])
    raise InvalidInput(rule.explain(vector, row), column=rule.column.name, row=row)


@dataclass(frozen=True, slots=True, eq=False)
class _Rule:
    """What one column has to fulfil: for one value (None: missing) or for many, and slowly, to find culprits."""

    column: Column
    takes_one: Callable[[Any], bool]
    takes_all: Callable[[Vector], bool]

    def refused(self, vector: Vector) -> Mask:
        """A mask of shape ``(rows,)`` over the rows that do not pass."""
        bad = self._bad_elements(vector)
        return np.asarray(bad.reshape(len(bad), math.prod(bad.shape[1:])).any(axis=1))

    def explain(self, vector: Vector, row: int) -> str:
        """Why `row` does not pass: where, what came, what was expected."""
        bad = self._bad_elements(vector)[row]
        where = f"column {self.column.name!r}, row {row}"
        value, missing = vector.values[row], vector.is_missing()[row]
        if np.ndim(bad):
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            where += f", position {at[0] if len(at) == 1 else at}"
            value, missing = value[at], missing[at] if np.ndim(missing) else missing
        return f"{where}: {_reason(self.column, value, bool(missing))}"

    def _bad_elements(self, vector: Vector) -> Mask:
        missing, values = vector.is_missing(), vector.values
        if missing.ndim < values.ndim:
            aligned = missing.reshape(missing.shape + (1,) * (values.ndim - missing.ndim))
            missing = np.broadcast_to(aligned, values.shape)
        bad = _outside(self.column, values) & ~missing
        return bad if self.column.nullable else bad | missing


def _outside(column: Column, values: NDArray[Any]) -> Mask:
    """Elements that are out of range, infinite or of an unknown category; missing ones may come out either way."""
    accepts = column.accepts
    bad = np.zeros(values.shape, dtype=np.bool_)
    if accepts.categories is not None:
        allowed = frozenset(accepts.categories)
        known = [value in allowed for value in values.ravel().tolist()]
        bad |= ~np.array(known, dtype=np.bool_).reshape(values.shape)
    if column.kind.is_float:
        infinite = np.isinf(values)
        bad |= infinite if not accepts.infinite else False
        finite = ~infinite & ~np.isnan(values)
    elif column.kind.is_integer:
        finite = np.ones(values.shape, dtype=np.bool_)
    else:
        return bad
    if accepts.minimum is not None:
        bad |= finite & (values < accepts.minimum)
    if accepts.maximum is not None:
        bad |= finite & (values > accepts.maximum)
    return bad


def _reason(column: Column, value: Any, missing: bool) -> str:
    if missing:
        return f"a value is missing; this model needs {_expected(column)} here"
    plain = value.item() if isinstance(value, np.generic) and value.dtype.kind != "M" else value
    return f"got {_shown(plain)}, expected {_expected(column)}"


def _expected(column: Column) -> str:
    accepts = column.accepts
    if accepts.categories is not None:
        return f"one of {_listed(accepts.categories)}"
    if column.kind is Kind.STRING:
        return "a text"
    if column.kind is Kind.BOOL:
        return "true or false"
    if column.kind is Kind.DATETIME:
        return "a date and time in ISO 8601"
    noun = "an integer" if column.kind.is_integer else "a number" if accepts.infinite else "a finite number"
    low, high = accepts.minimum, accepts.maximum
    if low is None and high is None:
        return noun if noun != "a finite number" or not column.nullable else "a finite number or null"
    if low is not None and high is not None:
        return f"{noun} between {low:g} and {high:g}"
    return f"{noun} of at least {low:g}" if low is not None else f"{noun} of at most {high:g}"


def _listed(categories: Sequence[Scalar]) -> str:
    shown = ", ".join(_shown(value) for value in categories[:_NAMED_CATEGORIES])
    more = len(categories) - _NAMED_CATEGORIES
    return f"{shown} and {more} more" if more > 0 else shown


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _rules_of(schema: Schema) -> tuple[_Rule, ...]:
    return tuple(_rule(column) for column in schema.columns)


_rules = PerSchema(_rules_of)


def _rule(column: Column) -> _Rule:
    return _Rule(column, _one(column), _many(column))


def _one(column: Column) -> Callable[[Any], bool]:
    """The quick form for one value of a plain column, None where it is missing."""
    accepts, nullable = column.accepts, column.nullable
    if accepts.categories is not None:
        taken = frozenset(accepts.categories) | ({None} if nullable else set())
        return lambda value: value in taken
    if column.kind.is_float or accepts.minimum is not None or accepts.maximum is not None:
        low = -math.inf if accepts.minimum is None else accepts.minimum
        high = math.inf if accepts.maximum is None else accepts.maximum
        return _one_number(low, high, accepts.infinite, nullable)
    return (lambda value: True) if nullable else (lambda value: value is not None)


def _one_number(low: float, high: float, infinite: bool, nullable: bool) -> Callable[[Any], bool]:
    def takes(value: float | None) -> bool:
        if value is None:
            return nullable
        return low <= value <= high if math.isfinite(value) else infinite

    return takes


def _many(column: Column) -> Callable[[Vector], bool]:
    """The form for many rows: whole-column operations that are cheap when all is well."""
    accepts = column.accepts
    if column.kind.is_float and accepts.categories is None:
        return _many_floats(column)
    if accepts.categories is None and accepts.minimum is None and accepts.maximum is None:
        return (lambda vector: True) if column.nullable else _none_missing
    slow = _Rule(column, _any, _none_missing)
    if accepts.categories is not None and column.kind is Kind.STRING:
        taken: frozenset[Scalar | None] = frozenset(accepts.categories) | ({None} if column.nullable else set())
        return lambda vector: taken.issuperset(vector.values.ravel().tolist())
    return lambda vector: not bool(slow.refused(vector).any())


def _many_floats(column: Column) -> Callable[[Vector], bool]:
    accepts, nullable = column.accepts, column.nullable
    largest = float(np.finfo(column.kind.numpy).max)
    low = -largest if accepts.minimum is None else accepts.minimum
    high = largest if accepts.maximum is None else accepts.maximum
    slow = _Rule(column, _any, _none_missing)

    def takes(vector: Vector) -> bool:
        values = vector.values
        # The least and the most of what is not missing; of nothing but NaN they are NaN.
        if values.size and low <= np.fmin.reduce(values, axis=None) and np.fmax.reduce(values, axis=None) <= high:
            return nullable or not np.isnan(values).any()
        return not bool(slow.refused(vector).any())

    return takes


def _any(value: Any) -> bool:
    return True


def _none_missing(vector: Vector) -> bool:
    if vector.missing is None and vector.values.dtype.kind not in "fMO":
        return True
    return not bool(vector.is_missing().any())
