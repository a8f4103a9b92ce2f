"""How calls become one batch and one answer becomes theirs again; how large a batch may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelyard.domain.frame import Answers, Frame, concat_frames

GROWTH = 4.0
"""Rows by which the limit grows after a full batch within the objective."""

SHRINKAGE = 0.9
"""What is left of the limit after a batch beyond the objective."""

START = 32.0


@dataclass(slots=True)
class BatchLimit:
    """The most rows of a batch: a little more after each full one within the objective, a tenth less after each beyond.

    Additive increase and multiplicative decrease find and follow the largest batch within a latency objective without
    knowing the model (Crankshaw et al., "Clipper: A Low-Latency Online Prediction Serving System", NSDI 2017).

    >>> limit = BatchLimit(objective_seconds=0.05, most=1000)
    >>> limit.after(32, 0.01)
    >>> limit.rows
    36
    >>> limit.after(36, 0.06)
    >>> limit.rows
    32
    """

    objective_seconds: float
    most: int
    _limit: float = START

    def __post_init__(self) -> None:
        self._limit = min(self._limit, float(self.most))

    @property
    def rows(self) -> int:
        """The most rows that the next batch may have; never less than one."""
        return max(int(self._limit), 1)

    def after(self, rows: int, seconds: float, least: float = 1.0, left_out: int = 0) -> None:
        """Learn that a batch of `rows` rows took `seconds`, and that `left_out` rows of a call did not fit into it.

        A batch that was not full says nothing about larger ones. A lone call beyond the limit shows, if it was quick
        enough, that so many rows are not too many. After a full batch within the objective there is room for the call
        that was left out, however many rows it has. The limit never falls below `least`: where a batch takes about as
        long as a single row, smaller ones would lower the throughput and hardly the latency.
        """
        if seconds > self.objective_seconds:
            if rows <= self.rows:
                self._limit = max(min(self._limit, max(self._limit * SHRINKAGE, least)), 1.0)
        elif left_out or rows >= self.rows - GROWTH:
            self._limit = min(max(self._limit, float(rows)) + max(GROWTH, float(left_out)), float(self.most))


GATHERING = 0.25
"""The share of what a batch takes at least that it may wait to become larger."""


def gather_seconds(waiting: int, before: int, one: float) -> float:
    """How long a batch may wait for more calls, where `waiting` are there and the batch before had `before`.

    Callers that were answered together ask again at about the same time. Without a pause the first of them would be
    computed alone and the others after it, in two batches that take nearly as long as one each. `one` is the least
    that a batch takes, in seconds; no more than a quarter of that is ever lost.

    >>> gather_seconds(waiting=1, before=16, one=0.002), gather_seconds(waiting=4, before=4, one=0.002)
    (0.0005, 0.0)
    """
    return 0.0 if waiting >= before else GATHERING * one


class CannotMerge(ValueError):
    """These frames do not make one: their values differ in type or shape."""


def merged(frames: Sequence[Frame]) -> Frame:
    """One frame of all rows, in order.

    Raises:
        CannotMerge: a column has another type or shape in one than in another.
    """
    if len(frames) == 1:
        return frames[0]
    try:
        frame = concat_frames(frames)
    except ValueError as odd:
        raise CannotMerge(str(odd)) from odd
    for name, column in frames[0].columns.items():
        if column.values.dtype != frame[name].values.dtype:
            raise CannotMerge(f"column {name!r} comes in several types")
    return frame


def union(wanted: Iterable[Sequence[str] | None]) -> list[str] | None:
    """The outputs that all calls together want; None for all there are.

    >>> union([["predict"], ["predict_proba", "predict"]])
    ['predict', 'predict_proba']
    >>> union([["predict"], None])
    """
    found: dict[str, None] = {}
    for names in wanted:
        if names is None:
            return None
        found.update(dict.fromkeys(names))
    return list(found)


def parts(answers: Answers, sizes: Sequence[int], wanted: Sequence[Sequence[str] | None]) -> list[Answers]:
    """The answers to each call, from those to all of them: its rows, and the outputs that it wants.

    Raises:
        ValueError: there are not as many answers as rows, or an output is not among them.
    """
    total = sum(sizes)
    for name, array in answers.items():
        if len(array) != total:
            raise ValueError(f"{len(array)} answers of {name!r} to {total} rows")
    found, start = [], 0
    for size, names in zip(sizes, wanted, strict=True):
        end = start + size
        if names is not None and any(name not in answers for name in names):
            raise ValueError(f"there is no answer to one of the outputs {', '.join(names)}")
        found.append({name: array[start:end] for name, array in answers.items() if names is None or name in names})
        start = end
    return found
