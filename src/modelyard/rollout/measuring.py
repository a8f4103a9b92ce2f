"""What a rollout has come to, from the records: how both versions did at the same time, and how sure the difference is.

Calls are taken in the order of their time, in a hundred pieces for each share that the candidate has had, so that the
rate that is expected of the next piece follows from those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from modelyard.rollout import arms, pairs
from modelyard.rollout.arms import Counts

LEVEL = 0.05
"""The intervals that are shown hold the difference at all times, with a probability of one less this."""

_SIZES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
MARGINS = (*(-size for size in reversed(_SIZES)), 0.0, *_SIZES)
"""Between which differences an interval can end."""

_PIECES = 100


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time in which the candidate had one share; both moments in UTC."""

    began: datetime
    ended: datetime
    share: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of both versions: calls, the rate of bad ones, and where the difference lies (`low`, `high`)."""

    metric: str
    baseline: int
    baseline_rate: float | None
    candidate: int
    candidate_rate: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Shadowed:
    """How often the candidate's answers differ from those that callers got, on the same rows."""

    rows: int
    different: int
    low: float
    high: float


class Records(Protocol):
    """Answers SQL over predictions and labels, as `modelyard.records.query.RecordDatabase` does."""

    def query(self, sql: str) -> Any:
        """The result as a `pyarrow.Table`."""
        ...


_ONE_CALL = """
    SELECT any_value(time) AS moment, any_value(model) AS model, any_value(version) AS version, {bad} AS bad
    FROM predictions WHERE {where} GROUP BY request_id"""
_ONE_ROW = """
    SELECT time AS moment, model, version,
           CASE WHEN coalesce(TRY_CAST(outputs ->> 'predict' AS DOUBLE) = label_number, (outputs ->> 'predict') = label)
                THEN 0 ELSE 1 END AS bad
    FROM joined WHERE {where} AND outcome = 'ok' AND label IS NOT NULL"""
_BY_PIECE = """
    WITH calls AS ({calls}),
    placed AS (
        SELECT ntile({pieces}) OVER (ORDER BY moment) AS piece, {candidate} AS is_candidate, bad FROM calls)
    SELECT piece, is_candidate, count(*) AS many, sum(bad) AS bad FROM placed GROUP BY ALL ORDER BY piece"""


def divided(
    records: Records,
    deployment: str,
    baseline: str,
    candidate: str,
    periods: Sequence[Period],
    slow_ms: float,
    *,
    classes: bool = True,
) -> tuple[Measured, ...]:
    """Compare both versions (as in ``flights-delay@4``) over the calls that were divided between them.

    Errors are answers that failed or were not available, slow are those later than `slow_ms`. Of versions that answer
    with `classes`, wrong are rows whose label is known and another than the prediction.
    """
    asked = {
        "errors": (_ONE_CALL, "max(CASE WHEN outcome IN ('failed', 'unavailable') THEN 1 ELSE 0 END)"),
        "slow": (_ONE_CALL, f"max(CASE WHEN latency_ms > {slow_ms:f} THEN 1 ELSE 0 END)"),
        **({"wrong": (_ONE_ROW, "")} if classes else {}),
    }
    among = f"deployment = {_text(deployment)} AND outcome <> 'refused' AND ({_is(baseline)} OR {_is(candidate)})"
    found = []
    for metric, (calls, bad) in asked.items():
        pieces = []
        for period in (period for period in periods if 0.0 < period.share < 1.0):
            where = f"{among} AND time >= {_moment(period.began)} AND time < {_moment(period.ended)}"
            sql = _BY_PIECE.format(calls=calls.format(bad=bad, where=where), pieces=_PIECES, candidate=_is(candidate))
            pieces.append((period.share, records.query(sql).to_pylist()))
        found.append(_measured(metric, pieces))
    return tuple(found)


def shadowed(records: Records, deployment: str, shadow: str, candidate: str, since: datetime) -> Shadowed:
    """Compare what the candidate answered in the shadow with what callers got, row by row."""
    rows = records.query(
        f"""
        SELECT (s.outputs -> 'predict') IS DISTINCT FROM (p.outputs -> 'predict') AS different
        FROM predictions AS p JOIN predictions AS s USING (prediction_id, row)
        WHERE p.deployment = {_text(deployment)} AND s.deployment = {_text(shadow)} AND {_is(candidate, "s.")}
          AND p.outcome = 'ok' AND s.outcome = 'ok' AND p.time >= {_moment(since)}
        ORDER BY p.time, prediction_id
        """  # noqa: S608 - texts are quoted
    )
    different = [float(one) for one in rows["different"].to_pylist()]
    evidence = pairs.observe(pairs.start([margin for margin in MARGINS if margin >= 0.0], least=0.0), different)
    low, high = arms.bounds(evidence, LEVEL)
    return Shadowed(len(different), int(sum(different)), max(low, 0.0), high)


def _measured(metric: str, periods: Sequence[tuple[float, list[dict[str, Any]]]]) -> Measured:
    evidence = arms.start(MARGINS)
    for share, rows in periods:
        for piece in sorted({row["piece"] for row in rows}):
            sides = {row["is_candidate"]: (row["many"], float(row["bad"])) for row in rows if row["piece"] == piece}
            counts = Counts.of(*sides.get(False, (0, 0)), *sides.get(True, (0, 0)))
            evidence = arms.observe(evidence, counts, share)
    seen, (low, high) = evidence.seen, arms.bounds(evidence, LEVEL)
    return Measured(
        metric,
        int(seen.baseline),
        float(seen.baseline_bad / seen.baseline) if seen.baseline else None,
        int(seen.candidate),
        float(seen.candidate_bad / seen.candidate) if seen.candidate else None,
        low,
        high,
    )


def _is(which: str, table: str = "") -> str:
    model, _, version = which.partition("@")
    return f"({table}model = {_text(model)} AND {table}version = {int(version)})"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _moment(moment: datetime) -> str:
    return f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S.%f}'"
