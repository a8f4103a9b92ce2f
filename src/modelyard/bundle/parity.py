"""Replays a golden set against anything that answers, and says whether it answers as training did."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from modelyard.domain.checks import check
from modelyard.domain.compare import SHOWN, Comparison, compare, describe, pick, shown
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import Tolerance
from modelyard.domain.parity import Mismatch, Stage, StageReport
from modelyard.domain.schema import Schema
from modelyard.errors import InvalidInput, ModelyardError, RowsRefused

Predict: TypeAlias = Callable[[Frame], Answers]
"""Answers rows for all outputs; raises `InvalidInput` or `RowsRefused` on rows it does not take."""

Mode: TypeAlias = Literal["single", "batch"]
"""``single``: every row on its own, and every row that must be refused; ``batch``: all answered rows at once."""


def replay(
    predict: Predict,
    golden: GoldenSet,
    schema: Schema,
    tolerance: Tolerance,
    mode: Mode,
    stage: Stage,
    *,
    checked: bool = True,
    on_row: Callable[[], None] | None = None,
) -> StageReport:
    """Ask `predict` for the golden rows and compare with what training answered to them in the same mode.

    With `checked`, rows pass `modelyard.domain.checks.check` first, as at every entrance; switch it off where
    `predict` goes through an entrance that checks by itself. `on_row` is called after each row (``single``).
    Nothing that `predict` raises on purpose gets out: it is part of the report.
    """
    started = time.perf_counter()

    def ask(frame: Frame) -> Answers:
        if checked:
            check(frame, schema)
        return predict(frame)

    asked = _ask_single(ask, golden, on_row or (lambda: None)) if mode == "single" else _ask_batch(ask, golden)
    recorded = golden.single if mode == "single" else golden.batch
    found = Comparison()
    if asked.rows:
        wanted = pick(recorded, asked.rows)
        found = compare(wanted, asked.answers, schema.outputs, tolerance, rows=asked.rows, origins=golden.origins)
    return _report(stage, asked, found, time.perf_counter() - started)


@dataclass(slots=True)
class _Asked:
    """What came back: answers to `rows`, and the rows that went wrong before any value could be compared."""

    rows: list[int] = field(default_factory=list)
    answers: Answers = field(default_factory=dict)
    refused: int = 0
    wrong: list[Mismatch] = field(default_factory=list)
    broke: str = ""


def _ask_single(ask: Predict, golden: GoldenSet, on_row: Callable[[], None]) -> _Asked:
    asked, parts = _Asked(), list[Answers]()
    for row, must_refuse in enumerate(golden.refused):
        try:
            answers = ask(golden.inputs.row(row))
        except (InvalidInput, RowsRefused) as error:
            if must_refuse is None:
                asked.wrong.append(_surprise(golden, row, _recorded(golden.single, row), f"refused: {error}"))
            else:
                asked.refused += 1
        except ModelyardError as error:
            asked.broke = f"row {row} ({golden.origins[row]}): {error}"
            break
        else:
            if must_refuse is None:
                asked.rows.append(row)
                parts.append(answers)
            else:
                asked.wrong.append(_surprise(golden, row, f"refused: {must_refuse}", _recorded(answers, 0)))
        on_row()
    asked.answers = _stacked(parts)
    return asked


def _ask_batch(ask: Predict, golden: GoldenSet) -> _Asked:
    rows = golden.answered()
    if not rows:
        return _Asked()
    try:
        return _Asked(rows, ask(golden.inputs.take(rows)))
    except ModelyardError as error:
        return _Asked(broke=f"a batch of {len(rows)} rows that training answered: {error}")


def _stacked(parts: Sequence[Answers]) -> Answers:
    """Answers to single rows, one under the other. Outputs that not every row has are left out, to be noticed."""
    names = [name for name in parts[0] if all(name in part for part in parts)] if parts else []
    stacked: Answers = {}
    for name in names:
        arrays = [part[name] for part in parts]
        if len({array.shape for array in arrays}) == 1:
            stacked[name] = np.concatenate(arrays)
    return stacked


def _surprise(golden: GoldenSet, row: int, expected: str, got: str) -> Mismatch:
    return Mismatch(row, golden.origins[row], "", expected, got)


def _recorded(answers: Answers, row: int) -> str:
    """The first answer to a row, as messages show it."""
    for name, array in answers.items():
        if len(array) <= row:
            return "no answer"
        return f"{name} = {shown(array[row] if array.ndim == 1 else array[row].tolist())}"
    return "an answer"


def _report(stage: Stage, asked: _Asked, found: Comparison, seconds: float) -> StageReport:
    mismatches = (*asked.wrong, *found.mismatches)[:SHOWN]
    return StageReport(
        stage,
        passed=found.equal and not asked.wrong and not asked.broke,
        rows=len(asked.rows),
        largest_abs=found.largest_abs,
        largest_rel=found.largest_rel,
        largest_ulp=found.largest_ulp,
        flips=found.flips,
        excused=found.excused,
        refused=asked.refused,
        mismatched=found.mismatched + len(asked.wrong),
        mismatches=mismatches,
        reason=asked.broke or found.problem or _reason(mismatches, found.mismatched + len(asked.wrong)),
        seconds=seconds,
    )


def _reason(mismatches: Sequence[Mismatch], mismatched: int) -> str:
    if not mismatches:
        return ""
    more = f" ({mismatched} answers differ in all)" if mismatched > 1 else ""
    return describe(mismatches[0]) + more
