"""The original's golden rows, answered by the version that was made again."""

from __future__ import annotations

from pathlib import Path

from modelyard.bundle.layout import Bundle
from modelyard.bundle.parity import replay
from modelyard.bundle.runtimes import open_native
from modelyard.domain.compare import Comparison, compare, pick
from modelyard.domain.frame import Answers
from modelyard.domain.golden import GoldenSet
from modelyard.domain.parity import StageReport
from modelyard.domain.reproduction import Answered
from modelyard.domain.schema import Schema
from modelyard.errors import ModelyardError

RECORDED, REPLAYED = "as both recorded them", "replayed in the environment of the run"


def compare_answers(original: Bundle, again: Bundle, python: Path) -> Answered:
    """How the answers to the golden rows of `original` differ in `again`.

    Where both versions drew the same golden rows, what both recorded while packing is compared, bit by bit. Where they
    did not, since the data or the code are others, the rows are replayed by the interpreter `python`.
    """
    golden, schema = original.golden(), original.manifest.schema
    decisions = len([output for output in schema.outputs if output.role == "label"])
    if _same_rows(original, again):
        made = again.golden()
        parts = [
            _compared(getattr(golden, way), getattr(made, way), golden, original, f"{way}: ")
            for way in ("single", "batch")
        ]
        return _joined(parts, decisions * len(golden.answered()), RECORDED)
    return _replayed(golden, schema, original, again, python, decisions)


def _same_rows(original: Bundle, again: Bundle) -> bool:
    """Whether rows and refusals are the same: the inputs by the digest of their file."""
    name = "golden/inputs.parquet"
    same_file = original.manifest.files.get(name) == again.manifest.files.get(name)
    same_outputs = original.manifest.schema.outputs == again.manifest.schema.outputs
    return same_file and same_outputs and original.golden().refused == again.golden().refused


def _compared(before: Answers, after: Answers, golden: GoldenSet, original: Bundle, way: str) -> Comparison:
    rows = golden.answered()
    manifest = original.manifest
    found = compare(
        pick(before, rows),
        pick(after, rows),
        manifest.schema.outputs,
        manifest.tolerance,
        rows=rows,
        origins=golden.origins,
    )
    return found if not found.problem else Comparison(rows=found.rows, problem=f"{way}{found.problem}")


def _joined(parts: list[Comparison], decisions: int, means: str) -> Answered:
    worst = max(parts, key=lambda part: (part.mismatched, part.flips))
    return Answered(
        rows=parts[0].rows,
        decisions=decisions,
        largest_abs=max(part.largest_abs for part in parts),
        largest_rel=max(part.largest_rel for part in parts),
        largest_ulp=max(part.largest_ulp for part in parts),
        flips=worst.flips,
        excused=worst.excused,
        mismatched=worst.mismatched,
        mismatches=worst.mismatches,
        problem=next((part.problem for part in parts if part.problem), ""),
        means=means,
    )


def _replayed(
    golden: GoldenSet, schema: Schema, original: Bundle, again: Bundle, python: Path, decisions: int
) -> Answered:
    try:
        runtime = open_native(again, python)
    except ModelyardError as error:
        return Answered(problem=f"the golden rows cannot be replayed: {error}", means=REPLAYED)
    try:
        tolerance = original.manifest.tolerance
        report = replay(runtime.predict, golden, schema, tolerance, "batch", "rebuilt", checked=False)
    finally:
        runtime.close()
    return _answered(report, decisions)


def _answered(report: StageReport, decisions: int) -> Answered:
    return Answered(
        rows=report.rows,
        decisions=decisions * report.rows,
        largest_abs=report.largest_abs,
        largest_rel=report.largest_rel,
        largest_ulp=report.largest_ulp,
        flips=report.flips,
        excused=report.excused,
        mismatched=report.mismatched,
        mismatches=report.mismatches,
        problem="" if report.rows else report.reason,
        means=REPLAYED,
    )
