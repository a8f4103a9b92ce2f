# Names and texts in this SQL are quoted; what users write is no part of it.
# ruff: noqa: S608
"""What the records have of a rollout since the last look: counts of both versions, or pairs where one is a shadow.

A call belongs to the stretch of time in which its answer was ready, a label to that in which it came first. So every
call and every labelled row is counted once, whatever the stretches are, as long as they follow one another.

Rows of one call hang together. So one row of a call of n weighs 1/n, which leaves a call one bet, as wealth is then
multiplied by the geometric mean of what bets on its rows would have won, and that is at most their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from modelyard.domain.desired import CANDIDATE
from modelyard.records.sqltext import literal
from modelyard.rollout import answers
from modelyard.rollout.batches import Batch, Divided, Paired
from modelyard.rollout.labelled import Labelled
from modelyard.rollout.metrics import RATIO
from modelyard.rollout.policy import Policy
from modelyard.rollout.sqlparts import (
    FINISH,
    ROWS,
    divided_of,
    either_of,
    is_version,
    listed,
    moment,
    of_both,
    paired_of,
)
from modelyard.rollout.subject import LONGEST, Recent, Subject

_NOT_TAKEN, _BUSY = "status = 422", 429
"""The model itself raised on these rows, which says something of the version, whoever is to blame; and the server
had no time, which says nothing of it."""

_BOTH = "b.finish + to_microseconds(CAST(round(coalesce(c.latency_ms, 0) * 1000) AS BIGINT))"
"""When a shadow's was: it begins once the baseline has answered, and says that the call arrived when it did."""


def gather(records: Recent, subject: Subject, since: datetime, until: datetime, share: float, policy: Policy) -> Batch:
    """Count what ended, or was labelled, from `since` to before `until` (UTC), while the candidate had that `share`.

    With a share of 0 it is a shadow, which is compared on the same rows; with 1 there is nothing to compare with.
    Metrics that have a `url` are not in the records: see `modelyard.rollout.outside`.

    Raises:
        Unavailable, Failed: the records cannot be reached or read.
    """
    calls = gather_calls(records, subject, since, until, share, policy)
    return joined(calls, gather_labels(records, subject, since, until, share, policy))


def gather_calls(
    records: Recent, subject: Subject, since: datetime, until: datetime, share: float, policy: Policy
) -> Batch:
    """The part of `gather` that is about calls that ended in that time."""
    stretch = _Stretch(records, subject, since, until, policy)
    if share <= 0.0:
        return Batch(since=since, until=until, paired=stretch.paired(), broken=stretch.broken())
    return Batch(since=since, until=until, divided=stretch.divided(), broken=stretch.broken())


def gather_labels(
    records: Recent, subject: Subject, since: datetime, until: datetime, share: float, policy: Policy
) -> Batch:
    """The part of `gather` that is about rows whose first label came in that time, whenever they were answered.

    All calls of the subject are looked through, so this takes the longer the longer a rollout goes on.
    """
    stretch = _Stretch(records, subject, since, until, policy)
    if share <= 0.0:
        return Batch(since=since, until=until, paired=stretch.labelled_pairs())
    return Batch(since=since, until=until, divided=stretch.labelled())


def joined(calls: Batch, labels: Batch) -> Batch:
    """Both, which are about different metrics."""
    return msgspec.structs.replace(
        calls, divided={**calls.divided, **labels.divided}, paired={**calls.paired, **labels.paired}
    )


class _Stretch:
    """The records of one stretch of time."""

    def __init__(self, records: Recent, subject: Subject, since: datetime, until: datetime, policy: Policy) -> None:
        self._records, self._subject, self._since, self._until = records, subject, since, until
        self._rules = rules = {rule.metric: rule for rule in policy.rules if not rule.url}
        self._task = subject.task
        self._names = [subject.deployment, subject.deployment + CANDIDATE]
        objective = rules["slow"].objective_ms if "slow" in rules else 0.0
        by_call = {
            "errors": (
                f"(outcome <> 'refused' OR {_NOT_TAKEN})",
                f"(outcome IN ('failed', 'unavailable') OR {_NOT_TAKEN})",
            ),
            "refusals": (f"status <> {_BUSY}", "outcome = 'refused'"),
            "slow": ("outcome <> 'refused'", f"latency_ms > {objective!r}"),
        }
        self._of_calls = {name: said for name, said in by_call.items() if name in rules}
        self._of_rows = answers.bad_rows(rules, self._task, subject.cuts)
        self._of_labels = answers.bad_labelled(rules, self._task)

    def divided(self) -> dict[str, Divided]:
        """Counts of both versions."""
        calls = self._calls(self._names[:1], ended=self._since)
        return {**self._by_call(calls), **self._by_row(calls)}

    def paired(self) -> dict[str, Paired]:
        """Differences on the same rows."""
        calls = self._calls(self._names)
        return {**self._pairs(calls), **self._pairs_of_rows(calls)}

    def broken(self) -> dict[str, str]:
        """What cannot be measured whatever comes, and why."""
        if "answers" not in self._rules or any(name.startswith("answers=") for name in self._of_rows):
            return {}
        why = "which classes or numbers it answers is not known: say `cuts` of numbers, or leave the metric out"
        return {"answers": why}

    def labelled(self) -> dict[str, Divided]:
        """Counts of labelled rows of both versions."""
        return self._labels().divided(self._names)

    def labelled_pairs(self) -> dict[str, Paired]:
        """Differences on the same labelled rows."""
        return self._labels().paired(self._names)

    def _labels(self) -> Labelled:
        return Labelled(self._records, self._subject, self._since, self._until, self._of_labels)

    def _calls(self, names: Sequence[str], ended: datetime | None = None) -> Any:
        """The rows of calls that can have ended in this stretch, as far as they count."""
        first = max(self._since - LONGEST, self._subject.arrived or self._subject.began)
        return self._records.calls(names, first, ROWS, until=self._subject.ended, ended=ended)

    def _by_call(self, calls: Any) -> dict[str, Divided]:
        """By metric; and, as the ratio, how many calls there were at all."""
        counted = {**self._of_calls, RATIO: ("true", "false")}
        counts = ", ".join(
            f"count(*) FILTER ({of}) AS all{at}, count(*) FILTER ({of} AND {bad}) AS bad{at}"
            for at, (of, bad) in enumerate(counted.values())
        )
        sql = f"""
            SELECT {self._is_candidate()} AS candidate, {counts} FROM calls
            WHERE coalesce("row", 0) = 0 AND {self._within(FINISH)} AND {self._either()} GROUP BY ALL"""
        rows = self._records.query(sql, {"calls": calls})
        return {name: divided_of(rows, at) for at, name in enumerate(counted)}

    def _by_row(self, calls: Any) -> dict[str, Divided]:
        if not self._of_rows:
            return {}
        each = ", ".join(f"avg({bad}) AS bad{at}" for at, bad in enumerate(self._of_rows.values()))
        sums = ", ".join(f"count(*) AS all{at}, sum(bad{at}) AS bad{at}" for at in range(len(self._of_rows)))
        sql = f"""
            WITH each AS (
                SELECT any_value({self._is_candidate()}) AS candidate, {each} FROM calls
                WHERE outcome = 'ok' AND "row" IS NOT NULL AND {self._within(FINISH)} AND {self._either()}
                GROUP BY segment, position)
            SELECT candidate, {sums} FROM each GROUP BY ALL"""
        rows = self._records.query(sql, {"calls": calls})
        return {name: divided_of(rows, at) for at, name in enumerate(self._of_rows)}

    def _pairs(self, calls: Any) -> dict[str, Paired]:
        if not self._of_calls:
            return {}
        live, shadow = map(literal, self._names)
        bad = [f"CAST({of} AND {bad} AS DOUBLE)" for of, bad in self._of_calls.values()]
        sql = f"""
            WITH calls_ AS (
                SELECT deployment, request_id, outcome, {FINISH} AS finish, latency_ms, {listed(bad)} FROM calls
                WHERE coalesce("row", 0) = 0
                QUALIFY row_number() OVER (PARTITION BY deployment, request_id ORDER BY segment, position) = 1)
            SELECT CASE WHEN c.request_id IS NOT NULL THEN 'both' WHEN b.outcome = 'ok' THEN 'left' ELSE 'alone' END
                   AS asked, {of_both(len(bad))}, count(*) AS many
            FROM (SELECT * FROM calls_ WHERE deployment = {live}) AS b
            LEFT JOIN (SELECT * FROM calls_ WHERE deployment = {shadow}) AS c USING (request_id)
            WHERE {self._within(_BOTH)}
            GROUP BY ALL ORDER BY ALL"""
        rows = self._records.query(sql, {"calls": calls})
        return {name: paired_of(rows, at) for at, name in enumerate(self._of_calls)}

    def _pairs_of_rows(self, calls: Any) -> dict[str, Paired]:
        names, bad = list(self._of_rows), list(self._of_rows.values())
        columns = of_both(len(bad))
        if "different" in self._rules:
            differs = answers.different(self._rules["different"].tolerance, "b.said", "c.said")
            columns += f"{', ' if bad else ''}0.0 AS b{len(bad)}, {differs} AS c{len(bad)}"
            names.append("different")
        if not names:
            return {}
        live, shadow = map(literal, self._names)
        sql = f"""
            WITH rows_ AS (
                SELECT deployment, prediction_id, "row", {FINISH} AS finish, latency_ms,
                       {listed(bad)}{"," if bad else ""} {answers.said(self._task)} AS said,
                       1.0 / count(*) OVER (PARTITION BY segment, position) AS weight FROM calls
                WHERE outcome = 'ok' AND "row" IS NOT NULL
                QUALIFY row_number() OVER (
                    PARTITION BY deployment, prediction_id, "row" ORDER BY segment, position) = 1)
            SELECT 'both' AS asked, {columns}, sum(b.weight) AS many
            FROM (SELECT * FROM rows_ WHERE deployment = {live}) AS b
            JOIN (SELECT * FROM rows_ WHERE deployment = {shadow}) AS c USING (prediction_id, "row")
            WHERE {self._within(_BOTH)} GROUP BY ALL ORDER BY ALL"""
        rows = self._records.query(sql, {"calls": calls})
        return {name: paired_of(rows, at) for at, name in enumerate(names)}

    def _within(self, when: str) -> str:
        return f"{when} >= {moment(self._since)} AND {when} < {moment(self._until)}"

    def _is_candidate(self) -> str:
        return is_version(self._subject.candidate)

    def _either(self) -> str:
        return either_of(self._subject.baseline, self._subject.candidate)
