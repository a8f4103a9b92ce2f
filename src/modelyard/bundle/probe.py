"""What the estimator takes, found by asking it: one row is varied, value by value, and answered or not.

A sample shows neither what a pipeline does with a missing value that it never met nor which numbers are too large for
it. The answers become `Column.nullable` and `Column.accepts`, which every entrance enforces alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from modelyard.domain.frame import Answers, Array, Frame, Vector, concat_frames
from modelyard.domain.schema import Accepts, Column, Kind, Scalar
from modelyard.errors import CannotPack, Failed

FLOAT32_MAX = float(np.finfo(np.float32).max)

UNSEEN_TEXT = "never seen before \u2726"
"""A text that no sample holds, outside ASCII so that encodings are tried as well."""

_BASES_TRIED = 32
_POSITIONS_TRIED = 64
_VALUES_ASKED = 2_000
_CLOSED_NUMBERS = 255

Known = Callable[[Column], Sequence[Scalar] | None]
"""What the framework knows of a column: the complete set of values that its encoders take, or None."""


class Predictor(Protocol):
    """Anything that answers frames and raises `Failed` on those it cannot take."""

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """Answer every row."""
        ...


def probe(
    columns: Sequence[Column], native: Predictor, sample: Frame, known: Known | None = None
) -> tuple[Column, ...]:
    """The columns with `nullable` and `accepts` as the estimator has shown them.

    Args:
        columns: As inferred from the sample.
        native: The estimator as packed.
        sample: Rows that it was trained on; one that it answers is varied.
        known: The framework's word on closed categories; it saves asking and covers values that the sample lacks.

    Raises:
        CannotPack: it answers none of the rows tried.
    """
    base = base_row(native, sample)
    guess = _Guess()
    asked = [_Asked(native, base, column) for column in columns]
    nullable = _taking_missing([one for one in asked if can_be_missing(one.column)], sample)
    return tuple(
        _probed(replace(one.column, nullable=one.column.name in nullable), one, sample[one.column.name], known, guess)
        for one in asked
    )


def base_row(native: Predictor, sample: Frame) -> Frame:
    """A row of the sample that the estimator answers, as complete as possible.

    Raises:
        CannotPack: it refuses all that were tried.
    """
    reason = ""
    for row in _completest(sample)[:_BASES_TRIED]:
        frame = sample.row(row)
        try:
            native.predict(frame)
        except Failed as error:
            reason = reason or str(error)
        else:
            return frame
    raise CannotPack(
        f"the estimator answers no row of the sample: {reason}; give rows as in training, without the target"
    )


def _completest(sample: Frame) -> list[int]:
    holes = np.zeros(sample.rows, dtype=np.int64)
    for vector in sample.columns.values():
        holes += vector.is_missing().reshape(sample.rows, -1).sum(axis=1)
    return [int(row) for row in np.argsort(holes, kind="stable")]


def can_be_missing(column: Column) -> bool:
    """Whether the training dtype can say that a value is missing.

    >>> can_be_missing(Column("n", Kind.INT64, False, "int64")), can_be_missing(Column("n", Kind.INT64, False, "Int64"))
    (False, True)
    """
    if column.kind.is_float or column.kind is Kind.DATETIME or column.dtype in ("object", "str", "category"):
        return True
    try:
        return np.dtype(column.dtype).kind not in "biuU"
    except TypeError:
        return True  # pandas types that are not numpy's have a marker of their own


@dataclass(slots=True)
class _Guess:
    """The bound found for the column before: columns of one table mostly share it."""

    magnitude: float = 1.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """The questions about one column, put as variations of the base row."""

    native: Predictor
    base: Frame
    column: Column

    def takes(self, *values: Any) -> bool:
        """Whether the estimator answers with each of `values` in this column; None asks about missing.

        In an array each position is tried in turn (the first 64 of a wide one).
        """
        return _answers(self.native, [row for value in values for row in self.rows_with(value)])

    def rows_with(self, value: Any) -> list[Frame]:
        """The base row with `value` in this column, for each position."""
        return [self._with(value, position) for position in self._positions()]

    def accepted(self, values: Sequence[Any]) -> list[Any]:
        """Those of `values` that the estimator takes."""
        if not values or self.takes(*values):
            return list(values)
        return [value for value in values if self.takes(value)]

    def _positions(self) -> Iterable[int]:
        return range(min(self.base[self.column.name].values.size, _POSITIONS_TRIED))

    def _with(self, value: Any, position: int) -> Frame:
        name = self.column.name
        return Frame({**self.base.columns, name: replaced(self.base[name], position, value)}, 1)


def replaced(vector: Vector, position: int, value: Any) -> Vector:
    """`vector` with `value` (None: missing) at one flat position.

    >>> replaced(Vector(np.array([1, 2])), 1, None).is_missing().tolist()
    [False, True]
    """
    values = vector.values.copy()
    flat = values.reshape(-1)
    if values.dtype.kind == "O":
        flat[position] = value
        return Vector(values)
    if values.dtype.kind == "M":
        flat[position] = np.datetime64("NaT") if value is None else value
        return Vector(values)
    if values.dtype.kind == "f":
        flat[position] = np.nan if value is None else value
        return Vector(values)
    missing = vector.is_missing().copy()
    missing.reshape(-1)[position] = value is None
    flat[position] = 0 if value is None else value
    return Vector(values, missing if missing.any() else None)


def _answers(native: Predictor, rows: Sequence[Frame]) -> bool:
    try:
        native.predict(concat_frames(rows))
    except Failed:
        return False
    return True


def _probed(column: Column, asked: _Asked, seen: Vector, known: Known | None, guess: _Guess) -> Column:
    if column.kind is Kind.DATETIME:
        return column
    closed = _closed_set(column, asked, _distinct(seen), known(column) if known else None)
    if closed is not None:
        return replace(column, accepts=Accepts(categories=closed))
    if column.kind.is_float or column.kind.is_integer:
        return replace(column, accepts=_bounds(column, asked, seen, guess))
    return column


def _taking_missing(asked: Sequence[_Asked], sample: Frame) -> set[str]:
    """Names of the columns in which a missing value is taken."""
    taken = {one.column.name for one in _all_taking(asked, None)}
    return taken | {
        one.column.name
        for one in asked
        if one.column.name not in taken and _takes_missing_as_seen(one, sample[one.column.name])
    }


def _all_taking(asked: Sequence[_Asked], value: Any) -> list[_Asked]:
    """Those columns in which `value` is taken. Wide tables are asked about in halves, since most columns are alike."""
    if not asked or _answers(asked[0].native, [row for one in asked for row in one.rows_with(value)]):
        return list(asked)
    if len(asked) == 1:
        return []
    middle = len(asked) // 2
    return [*_all_taking(asked[:middle], value), *_all_taking(asked[middle:], value)]


def _takes_missing_as_seen(asked: _Asked, seen: Vector) -> bool:
    """A table in one array may take missing values in some positions only: those in which the sample shows them."""
    gone = seen.is_missing()
    if seen.values.ndim == 1 or not gone.any():
        return False
    row = int(gone.reshape(len(gone), -1).any(axis=1).argmax())
    return _answers(asked.native, [Frame({asked.column.name: seen.take([row])}, 1)])


def _distinct(seen: Vector) -> list[Any]:
    present = seen.values[~seen.is_missing()]
    return list(dict.fromkeys(present.ravel().tolist()))


def _closed_set(
    column: Column, asked: _Asked, distinct: Sequence[Any], known: Sequence[Scalar] | None
) -> tuple[Scalar, ...] | None:
    """The complete set of values taken, if the estimator refuses every value outside of it; else None.

    The positions of an array may each have a set of their own, which one column cannot say: then it is None.
    """
    if column.shape:
        return None
    if column.kind is Kind.BOOL:
        taken = asked.accepted([False, True])
        return None if len(taken) == 2 else tuple(taken)
    if column.kind is not Kind.STRING and known is None and not _may_be_closed(column, asked, distinct):
        return None
    if any(asked.takes(value) for value in _novel(column, distinct, known)):
        return None
    values = [value for value in (distinct if known is None else known) if not _is_nothing(value)]
    return tuple(_sorted([*asked.accepted(values[:_VALUES_ASKED]), *values[_VALUES_ASKED:]]))


def _may_be_closed(column: Column, asked: _Asked, distinct: Sequence[Any]) -> bool:
    """Numbers are taken as codes only where few are seen and the one next to the largest is refused."""
    if not distinct or len(distinct) > _CLOSED_NUMBERS:
        return False
    finite = [value for value in distinct if math.isfinite(value)]
    return bool(finite) and not asked.takes(_next_to(max(finite), column.kind, upwards=True))


def _next_to(value: Any, kind: Kind, *, upwards: bool) -> Any:
    if kind.is_integer:
        limits = np.iinfo(kind.numpy)
        return min(value + 1, int(limits.max)) if upwards else max(value - 1, int(limits.min))
    return value + 1.0 if upwards else value - 1.0


def _novel(column: Column, distinct: Sequence[Any], known: Sequence[Scalar] | None) -> list[Any]:
    """Values near and far that were never seen: only an estimator that refuses them all has a closed set."""
    there = set(distinct) | set(known or ())
    if column.kind is Kind.STRING:
        near = [f"{value}{value[-1:]}" for value in distinct[:2]]
        candidates: list[Any] = [UNSEEN_TEXT, *near, "a b", "0", "12.5", "2013-01-01"]
    else:
        finite = [value for value in there if isinstance(value, int | float) and math.isfinite(value)] or [0]
        low, high = min(finite), max(finite)
        candidates = [_next_to(high, column.kind, upwards=True), _next_to(low, column.kind, upwards=False)]
        candidates += [value for value in (0, 1, 2, 3, 5, 7, 11) if low < value < high]
        if column.kind.is_float:
            candidates.append(low + (high - low) * 0.382)
    return [value for value in candidates if value not in there]


def _is_nothing(value: Any) -> bool:
    return value is None or value != value


def _sorted(values: Iterable[Any]) -> list[Any]:
    return sorted(dict.fromkeys(values), key=lambda value: (type(value).__name__, value))


def _bounds(column: Column, asked: _Asked, seen: Vector, guess: _Guess) -> Accepts:
    finite = _finite(seen.values[~seen.is_missing()])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    minimum = _largest(column.kind, low, -1, asked, guess)
    maximum = _largest(column.kind, high, 1, asked, guess)
    unbounded = minimum is None and maximum is None
    infinite = unbounded and column.kind.is_float and asked.takes(math.inf) and asked.takes(-math.inf)
    return Accepts(minimum=minimum, maximum=maximum, infinite=infinite)


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _largest(kind: Kind, seen: float, sign: int, asked: _Asked, guess: _Guess) -> float | None:
    """The most extreme value taken on one side; None if there is no limit.

    Where there is one, the largest number of single precision will do if it is taken: what lies between it and the true
    limit overflows as soon as two columns are added. Otherwise the limit is found by powers of ten.
    """
    ladder = _ladder(kind, seen, sign)

    def takes(step: float) -> bool:
        return asked.takes(_exactly(step, kind))

    if takes(ladder[-1]):
        return None
    enough = max((at for at, step in enumerate(ladder[:-1]) if abs(step) <= FLOAT32_MAX), default=0)
    if enough and takes(ladder[enough]):
        return float(ladder[enough])
    refused = enough or len(ladder) - 1
    found = _last_taken(ladder[: refused + 1], takes, _near(ladder[: refused + 1], guess.magnitude))
    guess.magnitude = abs(ladder[found])
    return float(ladder[found])


def _ladder(kind: Kind, seen: float, sign: int) -> list[float]:
    """What training saw, then ever larger values on that side, up to the limit of the kind."""
    top = float(np.finfo(kind.numpy).max) if kind.is_float else float(np.iinfo(kind.numpy).max)
    bottom = -top if kind.is_float else float(np.iinfo(kind.numpy).min)
    limit = top if sign > 0 else bottom
    powers = [sign * 10.0**k for k in range(309)]
    steps = [0.0, *powers, sign * FLOAT32_MAX]
    beyond = {step for step in steps if abs(step) < abs(limit) and (step - seen) * sign > 0}
    if (limit - seen) * sign <= 0:
        return [seen]
    return [seen, *sorted(beyond, key=lambda step: step * sign), limit]


def _exactly(value: float, kind: Kind) -> Any:
    if kind.is_float:
        return value
    limits = np.iinfo(kind.numpy)
    return min(max(int(value), int(limits.min)), int(limits.max))


def _near(ladder: Sequence[float], magnitude: float) -> int:
    return max((at for at, value in enumerate(ladder[:-1]) if abs(value) <= magnitude), default=0)


def _last_taken(ladder: Sequence[float], takes: Callable[[float], bool], start: int) -> int:
    """The last step of the ladder that is taken, given that the top is not; the guess and its neighbour come first."""
    low, high = 0, len(ladder) - 1
    for at in (start, start + 1):
        if low < at < high:
            low, high = (at, high) if takes(ladder[at]) else (low, at)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(ladder[middle]) else (low, middle)
    return low
