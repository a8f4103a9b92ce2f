"""What two versions answer to the same rows, and how fast, side by side in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import msgspec

from modelyard.domain.checks import offences
from modelyard.domain.compare import compare
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Output, Schema
from modelyard.scoring.score import BATCH_ROWS, frame_of
from modelyard.scoring.sources import Source, opened

_EXAMPLES = 8
_EXACT = Tolerance(0.0, 0.0)
_BLOCK_SECONDS = 0.002


class Example(msgspec.Struct, frozen=True):
    """One answer that differs: the row of the table, from 0."""

    row: int
    output: str
    before: str
    after: str


class OutputDiff(msgspec.Struct, frozen=True):
    """How one output differs: in how many rows at all, in how many by more than the tolerance of the older version.

    `largest_abs` is of finite numbers, `flips` counts labels. `problem` says why values could not be compared.
    """

    name: str
    role: str
    rows: int = 0
    beyond: int = 0
    largest_abs: float = 0.0
    flips: int = 0
    problem: str = ""


class AnswersDiff(msgspec.Struct, frozen=True):
    """On how many rows of a table the answers differ. `compared` are those that both versions take."""

    table: str
    rows: int
    compared: int
    differing: int
    refused_by: tuple[int, int]
    outputs: tuple[OutputDiff, ...]
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()


class Speed(msgspec.Struct, frozen=True):
    """Microseconds that one row takes in this process: median and quartiles of each version, and their ratio.

    Both were asked in turn, a block of calls each, so that what else the machine did met both. `ratio` is the median of
    the ratios (after / before) of neighbouring blocks. `why_not` says why nothing was measured.
    """

    before: tuple[float, float, float] | None = None
    after: tuple[float, float, float] | None = None
    ratio: float | None = None
    blocks: int = 0
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Answering:
    """A version that is open: what it takes, and its answers."""

    schema: Schema
    tolerance: Tolerance
    predict: Callable[[Frame], Answers]


@dataclass(slots=True)
class _Tally:
    outputs: dict[str, OutputDiff]
    rows: int = 0
    compared: int = 0
    differing: int = 0
    refused: list[int] = field(default_factory=lambda: [0, 0])
    examples: list[Example] = field(default_factory=list)


def on_table(before: Answering, after: Answering, file: Path, tell: Callable[[int, float], None]) -> AnswersDiff:
    """Ask both for every row of a CSV or Parquet file, in pieces; a row that one of them refuses is counted apart.

    Raises:
        InvalidInput: a column is not there or cannot be read as what a version takes.
        RowsRefused: a model itself raised.
        InvalidRequest, NotOffered: the file cannot be read.
    """
    shared = [one for one in before.schema.outputs if any(one.name == other.name for other in after.schema.outputs)]
    tally = _Tally({output.name: OutputDiff(output.name, output.role) for output in shared})
    with opened(file, BATCH_ROWS) as table:
        for piece in table.pieces():
            _piece(tally, before, after, shared, table, piece)
            tell(tally.rows, table.share())
    return AnswersDiff(
        table=str(file),
        rows=tally.rows,
        compared=tally.compared,
        differing=tally.differing,
        refused_by=(tally.refused[0], tally.refused[1]),
        outputs=tuple(tally.outputs.values()),
        only_before=_without(before.schema, after.schema),
        only_after=_without(after.schema, before.schema),
        examples=tuple(tally.examples),
    )


def _without(one: Schema, other: Schema) -> tuple[str, ...]:
    there = {output.name for output in other.outputs}
    return tuple(output.name for output in one.outputs if output.name not in there)


def _piece(
    tally: _Tally, before: Answering, after: Answering, shared: Sequence[Output], table: Source, piece: Any
) -> None:
    frames = [frame_of(one.schema, table, piece) for one in (before, after)]
    refused = [offences(frame, one.schema) for frame, one in zip(frames, (before, after), strict=True)]
    rows = [row for row in range(piece.num_rows) if row not in refused[0] and row not in refused[1]]
    for at in (0, 1):
        tally.refused[at] += len(refused[at])
    if rows:
        whole = len(rows) == piece.num_rows
        answers = [
            one.predict(frame if whole else frame.take(rows))
            for one, frame in zip((before, after), frames, strict=True)
        ]
        _compared(tally, before.tolerance, shared, answers, [row + tally.rows for row in rows])
    tally.compared += len(rows)
    tally.rows += piece.num_rows


def _compared(
    tally: _Tally, tolerance: Tolerance, shared: Sequence[Output], answers: Sequence[Answers], rows: Sequence[int]
) -> None:
    differing: set[int] = set()
    for output in shared:
        was, now = ({output.name: one[output.name]} for one in answers)
        exact, near = (compare(was, now, [output], allowed, rows=rows) for allowed in (_EXACT, tolerance))
        known = tally.outputs[output.name]
        if exact.problem:
            tally.outputs[output.name] = msgspec.structs.replace(known, problem=exact.problem)
            continue
        differing |= _rows_that_differ(was[output.name], now[output.name])
        tally.outputs[output.name] = msgspec.structs.replace(
            known,
            rows=known.rows + exact.mismatched,
            beyond=known.beyond + near.mismatched,
            largest_abs=max(known.largest_abs, exact.largest_abs),
            flips=known.flips + exact.flips,
        )
        room = _EXAMPLES - sum(one.output.partition("[")[0] == output.name for one in tally.examples)
        tally.examples += [
            Example(one.row, one.output, one.expected, one.got) for one in exact.mismatches[: max(room, 0)]
        ]
    tally.differing += len(differing)


def _rows_that_differ(was: Any, now: Any) -> set[int]:
    import numpy as np

    same = np.asarray(was == now)
    if was.dtype.kind in "fM":
        same = same | ((was != was) & (now != now))
    return set(np.flatnonzero(~same.reshape(len(was), -1).all(axis=1)).tolist())


def side_by_side(before: Callable[[], object], after: Callable[[], object], seconds: float = 1.0) -> Speed:
    """Time two calls in turn, for about `seconds` in all."""
    count = max(1, min(1000, int(_BLOCK_SECONDS / max(_block(before, 3), _block(after, 3)))))
    blocks: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(blocks) < 5 or time.perf_counter() < end:
        if len(blocks) % 2:
            second = _block(after, count)
            blocks.append((_block(before, count), second))
        else:
            blocks.append((_block(before, count), _block(after, count)))
    return Speed(
        _spread([one for one, _ in blocks]),
        _spread([other for _, other in blocks]),
        median(other / one for one, other in blocks),
        len(blocks),
    )


def _block(call: Callable[[], object], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count


def _spread(seconds: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = quantiles(seconds, n=4)
    return middle * 1e6, low * 1e6, high * 1e6
