"""Whether answers are the same as training's: how far apart numbers are, and which labels flipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Answers, Array
from modelyard.domain.manifest import Tolerance
from modelyard.domain.parity import Mismatch
from modelyard.domain.schema import Output

SHOWN = 8
"""How many mismatches are kept in full; the rest are counted."""

_SHOWN_LETTERS = 80


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two sets of answers differ; the fields mean what they mean in a `StageReport`.

    `problem` says why answers could not be compared value by value: an output that is not there, or has another
    type or shape.
    """

    rows: int = 0
    largest_abs: float = 0.0
    largest_rel: float = 0.0
    largest_ulp: int = 0
    flips: int = 0
    excused: int = 0
    mismatched: int = 0
    mismatches: tuple[Mismatch, ...] = ()
    problem: str = ""

    @property
    def equal(self) -> bool:
        """Whether everything is the same within the tolerance."""
        return not self.problem and not self.mismatched

    @property
    def reason(self) -> str:
        """Why it is not equal, in one line; empty when it is."""
        if self.problem or not self.mismatches:
            return self.problem
        more = f" ({self.mismatched} answers differ in all)" if self.mismatched > 1 else ""
        return describe(self.mismatches[0]) + more


def describe(mismatch: Mismatch) -> str:
    """One line on one answer that differs.

    >>> describe(Mismatch(3, "edge: temp missing", "predict", "'late'", "'on time'"))
    "row 3 (edge: temp missing), output 'predict': expected 'late', got 'on time'"
    """
    origin = f" ({mismatch.origin})" if mismatch.origin else ""
    output = f", output {mismatch.output!r}" if mismatch.output else ""
    return f"row {mismatch.row}{origin}{output}: expected {mismatch.expected}, got {mismatch.got}"


def compare(
    expected: Answers,
    got: Answers,
    outputs: Sequence[Output],
    tolerance: Tolerance,
    *,
    rows: Sequence[int] | None = None,
    origins: Sequence[str] = (),
) -> Comparison:
    """Compare two answers to the same rows, output by output.

    Floats other than labels may differ by the tolerance; NaN equals NaN and an infinity itself. Everything else must be
    equal, except a label whose margin in `expected` (gap of the two best probabilities, or distance of the
    decision function from zero) is inside the tolerance. `rows` are the positions to name in messages (None: 0, 1,
    2 ...), and `origins` says by position where a row came from.

    >>> from modelyard.domain.schema import Kind
    >>> price = Output("predict", Kind.FLOAT64, "value", "predict")
    >>> found = compare({"predict": np.array([1.0, 2.0])}, {"predict": np.array([1.0, 2.5])}, [price], Tolerance())
    >>> found.largest_abs, found.reason
    (0.5, "row 1, output 'predict': expected 2.0, got 2.5")
    """
    total = Comparison(rows=_rows_of(expected))
    places = _Places(range(total.rows) if rows is None else rows, origins)
    for output in outputs:
        if problem := _structure(output, expected, got):
            return replace(total, problem=problem, mismatched=total.rows)
    for output in outputs:
        total = _joined(total, _compare_one(output, expected, got[output.name], outputs, tolerance, places))
    return total


def ulps(left: Array, right: Array) -> NDArray[np.uint64]:
    """How many representable numbers lie between finite floats of the same type; 0 where they are equal.

    >>> ulps(np.array([1.0, 0.0]), np.array([np.nextafter(1.0, 2.0), -0.0])).tolist()
    [1, 0]
    """
    a, b = _ordered(left), _ordered(right)
    distance: NDArray[np.uint64] = np.where(a > b, a - b, b - a)
    return distance


def _ordered(values: Array) -> NDArray[np.uint64]:
    """Whole numbers in the same order and spacing as the floats; both zeros become the same one."""
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    bits = np.ascontiguousarray(values).view(unsigned).astype(np.uint64)
    top = np.uint64(1) << np.uint64(8 * values.dtype.itemsize - 1)
    magnitude = bits & (top - np.uint64(1))
    ordered: NDArray[np.uint64] = np.where(bits & top, top - magnitude, top + magnitude)
    return ordered


@dataclass(frozen=True, slots=True)
class _Places:
    """Names rows in messages."""

    rows: Sequence[int]
    origins: Sequence[str]

    def mismatch(self, index: int, output: str, expected: Any, got: Any) -> Mismatch:
        row = self.rows[index]
        origin = self.origins[row] if row < len(self.origins) else ""
        return Mismatch(row, origin, output, shown(expected), shown(got))


def shown(value: Any) -> str:
    """A value as messages show it: as Python writes it, shortened.

    >>> shown(np.float64(0.25)), shown("late")
    ('0.25', "'late'")
    """
    text = repr(value.item() if isinstance(value, np.generic) and value.dtype.kind != "M" else value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[: _SHOWN_LETTERS - 3]}..."


def _rows_of(answers: Answers) -> int:
    return max((len(array) for array in answers.values()), default=0)


def _structure(output: Output, expected: Answers, got: Answers) -> str:
    """What keeps an output from being compared by value; empty if nothing does."""
    if output.name not in got:
        return f"output {output.name!r}: there is no answer; got: {', '.join(got) or 'nothing'}"
    want, have = expected[output.name], got[output.name]
    if want.dtype != have.dtype:
        return f"output {output.name!r}: expected values of type {want.dtype}, got {have.dtype}"
    if want.shape != have.shape:
        return f"output {output.name!r}: expected shape {want.shape}, got {have.shape}"
    return ""


def _compare_one(
    output: Output, expected: Answers, got: Array, outputs: Sequence[Output], tolerance: Tolerance, places: _Places
) -> Comparison:
    want = expected[output.name]
    if want.dtype.kind == "f" and output.role != "label":
        return _compare_numbers(output, want, got, tolerance, places)
    differs = _differs(want, got)
    if not differs.any():
        return Comparison()
    excused = differs & _excusable(output, expected, outputs, tolerance)
    is_label = output.role == "label"
    found = _listed(output, want, got, differs & ~excused, places)
    return replace(found, flips=int(differs.sum()) if is_label else 0, excused=int(excused.sum()))


def _differs(want: Array, got: Array) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = np.asarray(want == got, dtype=np.bool_)
    if want.dtype.kind == "f":
        same = same | (np.isnan(want) & np.isnan(got))
    if want.dtype.kind == "M":
        same = same | (np.isnat(want) & np.isnat(got))
    return ~same


def _compare_numbers(output: Output, want: Array, got: Array, tolerance: Tolerance, places: _Places) -> Comparison:
    differs = _differs(want, got)
    if not differs.any():
        return Comparison()
    finite = differs & np.isfinite(want) & np.isfinite(got)
    a, b = want[finite], got[finite]
    with np.errstate(all="ignore"):
        error = np.abs(b.astype(np.float64) - a.astype(np.float64))
        size = np.abs(a.astype(np.float64))
        allowed = tolerance.atol + tolerance.rtol * size
        relative = error[size > 0] / size[size > 0]
    wrong = differs.copy()
    wrong[finite] = ~(error <= allowed)
    return replace(
        _listed(output, want, got, wrong, places),
        largest_abs=float(error.max(initial=0.0)),
        largest_rel=float(relative.max(initial=0.0)),
        largest_ulp=int(ulps(a, b).max(initial=0)),
    )


def _listed(output: Output, want: Array, got: Array, wrong: NDArray[np.bool_], places: _Places) -> Comparison:
    """Counts rows with a wrong value, and tells the first few: the first wrong value of each."""
    by_row = wrong.reshape(len(wrong), -1).any(axis=1)
    indices = np.flatnonzero(by_row)
    told = []
    for index in indices[:SHOWN].tolist():
        at = tuple(np.argwhere(wrong[index])[0].tolist()) if wrong.ndim > 1 else ()
        told.append(places.mismatch(index, _element(output, at), want[(index, *at)], got[(index, *at)]))
    return Comparison(mismatched=len(indices), mismatches=tuple(told))


def _element(output: Output, at: tuple[int, ...]) -> str:
    """The name of one value of an output: by class where there are classes, else by position."""
    if not at:
        return output.name
    if output.classes is not None and output.role in ("probability", "score") and at[-1] < len(output.classes):
        return f"{output.name}[{output.classes[at[-1]]}]"
    return f"{output.name}[{', '.join(map(str, at))}]"


def _excusable(output: Output, expected: Answers, outputs: Sequence[Output], tolerance: Tolerance) -> NDArray[np.bool_]:
    """Where a flipped label is a matter of rounding: training itself was undecided within the tolerance."""
    shape = expected[output.name].shape
    excusable = np.zeros(shape, dtype=np.bool_)
    if output.role == "label":
        for near in _near_ties(output, shape, expected, outputs, tolerance):
            excusable |= near
    return excusable


def _near_ties(
    label: Output, shape: tuple[int, ...], expected: Answers, outputs: Sequence[Output], tolerance: Tolerance
) -> Iterator[NDArray[np.bool_]]:
    """For each output that shows how sure training was: where it was not."""
    for output in outputs:
        if output.role not in ("probability", "score"):
            continue
        values = expected[output.name]
        if values.dtype.kind != "f":
            continue
        if output.part == label.part and values.ndim == len(shape) + 1:
            yield _tied(values, tolerance)
        elif output.part == label.part and values.shape == shape:
            middle = 0.5 if output.role == "probability" else 0.0
            yield np.abs(values - middle) <= _allowed(np.asarray(middle), tolerance)
        elif isinstance(output.part, int) and len(shape) == 2 and values.ndim == 2 and output.part < shape[1]:
            near = np.zeros(shape, dtype=np.bool_)
            near[:, output.part] = _tied(values, tolerance)
            yield near


def _tied(values: Array, tolerance: Tolerance) -> NDArray[np.bool_]:
    """Where the two best along the last axis are as good as equal."""
    if values.shape[-1] < 2:
        return np.zeros(values.shape[:-1], dtype=np.bool_)
    best = np.sort(values, axis=-1)[..., -2:]
    tied: NDArray[np.bool_] = best[..., 1] - best[..., 0] <= _allowed(best[..., 1], tolerance)
    return tied


def _allowed(size: Array, tolerance: Tolerance) -> Array:
    allowed: Array = tolerance.atol + tolerance.rtol * np.abs(size)
    return allowed


def _joined(left: Comparison, right: Comparison) -> Comparison:
    return Comparison(
        rows=left.rows,
        largest_abs=max(left.largest_abs, right.largest_abs),
        largest_rel=max(left.largest_rel, right.largest_rel),
        largest_ulp=max(left.largest_ulp, right.largest_ulp),
        flips=left.flips + right.flips,
        excused=left.excused + right.excused,
        mismatched=left.mismatched + right.mismatched,
        mismatches=(left.mismatches + right.mismatches)[:SHOWN],
    )


def pick(answers: Mapping[str, Array], rows: Sequence[int]) -> Answers:
    """The answers to these rows only."""
    positions = np.asarray(rows, dtype=np.intp)
    return {name: array[positions] for name, array in answers.items()}
