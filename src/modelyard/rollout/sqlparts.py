# Names and texts in this SQL are quoted; what users write is no part of it.
"""Pieces of the SQL that counts what came of both versions, and counts from the rows that it gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from modelyard.domain.names import Ref
from modelyard.records.sqltext import literal
from modelyard.rollout.batches import Divided, Paired

ROWS = (
    *("prediction_id", "request_id", "row", "deployment", "model", "version", "time", "latency_ms"),
    *("status", "outcome", "outputs", "segment", "position"),
)
"""The columns of rows of calls that are counted."""

TIME, SHIPPED_TIME = '"time"', 'make_timestamp(epoch_us("time")) AS "time"'
"""The moment of a row that waits to be shipped, and the same of one that is shipped, which has a zone (UTC)."""

FINISH = "time + to_microseconds(CAST(round(latency_ms * 1000) AS BIGINT))"
"""When the answer was ready."""


def listed(values: Iterable[str]) -> str:
    """Values as columns ``v0``, ``v1`` and so on."""
    return ", ".join(f"{value} AS v{at}" for at, value in enumerate(values))


def of_both(many: int) -> str:
    """These of both versions as ``b0``, ``c0`` and so on."""
    return ", ".join(f"b.v{at} AS b{at}, c.v{at} AS c{at}" for at in range(many))


def divided_of(rows: Sequence[Mapping[str, Any]], at: int) -> Divided:
    """Counts from ``all0``, ``bad0`` and so on, a row for each version."""
    sides = {bool(row["candidate"]): (float(row[f"all{at}"] or 0.0), float(row[f"bad{at}"] or 0.0)) for row in rows}
    return Divided(*sides.get(False, (0.0, 0.0)), *sides.get(True, (0.0, 0.0)))


def paired_of(rows: Sequence[Mapping[str, Any]], at: int) -> Paired:
    """Differences from ``b0``, ``c0`` and so on, ``many`` times each.

    Of calls that the baseline failed the candidate is not asked (`asked` is ``alone``): nothing is known of it but that
    it cannot have done worse. Of those that were answered a busy server asks it a part (``both``, the others are
    ``left``), so those that failed count as that part of themselves: else they would weigh more than they do among
    all calls.
    """
    part = _part_asked(rows)
    differences: dict[float, float] = {}
    least: dict[float, float] = {}
    asked = baseline = candidate = 0.0
    for row in rows:
        many, before = float(row["many"]), float(row[f"b{at}"])
        if row["asked"] == "left":
            continue
        if row["asked"] == "alone":
            many *= part
            differences[0.0] = differences.get(0.0, 0.0) + many
            least[-before] = least.get(-before, 0.0) + many
            continue
        after = float(row[f"c{at}"])
        for known in (differences, least):
            known[after - before] = known.get(after - before, 0.0) + many
        asked, baseline, candidate = asked + many, baseline + many * before, candidate + many * after
    sums = Divided(asked, baseline, asked, candidate)
    return Paired(tuple(sorted(differences.items())), tuple(sorted(least.items())), sums)


def _part_asked(rows: Sequence[Mapping[str, Any]]) -> float:
    """Of the calls that were answered, in which part the candidate was asked as well; all where none was left out."""
    many = {which: sum(float(row["many"]) for row in rows if row["asked"] == which) for which in ("both", "left")}
    return many["both"] / (many["both"] + many["left"]) if many["left"] else 1.0


def moment(at: datetime) -> str:
    """A moment in UTC, as SQL has it."""
    return f"TIMESTAMP '{at:%Y-%m-%d %H:%M:%S.%f}'"


def is_version(which: str) -> str:
    """Whether a row is of a version, as in ``flights-delay@4``."""
    ref = Ref.parse(which)
    return f"(model = {literal(ref.model)} AND version = {ref.version})"


def either_of(baseline: str, candidate: str) -> str:
    """Whether a row is of one of the two."""
    return f"({is_version(baseline)} OR {is_version(candidate)})"
