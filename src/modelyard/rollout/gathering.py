# Names and texts in this SQL are quoted; what users write is no part of it.
# ruff: noqa: S608
"""What the records have of a rollout since the last look: counts of both versions, or pairs where one is a shadow.

A call belongs to the stretch of time in which its answer was ready, a label to that in which it came first. So every
call and every labelled row is counted once, whatever the stretches are, as long as they follow one another.

Rows of one call hang together. So one row of a call of n weighs 1/n, which leaves a call one bet, as wealth is then
multiplied by the geometric mean of what bets on its rows would have won, and that is at most their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from modelyard.domain.desired import CANDIDATE
from modelyard.domain.names import Ref
from modelyard.monitoring.performance.task import Task
from modelyard.records.label_views import key_expression
from modelyard.records.sqltext import literal
from modelyard.rollout import answers
from modelyard.rollout.batches import Batch, Divided, Paired
from modelyard.rollout.metrics import RATIO
from modelyard.rollout.policy import Policy

LAG = timedelta(seconds=2)
"""A look goes up to so long before now: what has ended by then is in the records."""

LONGEST = timedelta(minutes=2)
"""Calls that took longer are not found any more."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Who is compared: two versions (as in ``flights-delay@4``) of a deployment, since `began` (UTC).

    `task` says what their answers are; None where nobody knows, and then labels say nothing of them. Only calls count
    that arrived from `arrived` to before `ended`, where these are given.
    """

    deployment: str
    baseline: str
    candidate: str
    began: datetime
    task: Task | None = None
    arrived: datetime | None = None
    ended: datetime | None = None


class Recent(Protocol):
    """Gives recent records, as `modelyard.records.recent.RecentRecords` does."""

    def calls(
        self,
        deployments: Sequence[str],
        since: datetime,
        columns: Sequence[str] = ...,
        *,
        until: datetime | None = ...,
        ended: datetime | None = ...,
    ) -> Any:
        """The rows of calls that arrived from a moment on, until another, and ended from one on."""
        ...

    def labels(self, since: datetime, columns: Sequence[str] = ...) -> Any:
        """All labels that were received from a moment on."""
        ...

    def history(self, deployments: Sequence[str], since: datetime, until: datetime | None = ...) -> dict[str, Any]:
        """Tables for `query`, ``waiting`` and ``shipped``, with the calls of a long time."""
        ...

    def query(self, sql: str, tables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What a SELECT over some tables gives."""
        ...


_COLUMNS = ("prediction_id", "request_id", "row", "deployment", "model", "version", "time", "latency_ms")
_ROWS = (*_COLUMNS, "outcome", "outputs", "segment", "position")

_TIME, _SHIPPED_TIME = '"time"', 'make_timestamp(epoch_us("time")) AS "time"'

_FINISH = "time + to_microseconds(CAST(round(latency_ms * 1000) AS BIGINT))"
"""When the answer was ready."""

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
        return Batch(since=since, until=until, paired=stretch.paired())
    return Batch(since=since, until=until, divided=stretch.divided())


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
            "errors": ("outcome <> 'refused'", "outcome IN ('failed', 'unavailable')"),
            "refusals": ("true", "outcome = 'refused'"),
            "slow": ("outcome <> 'refused'", f"latency_ms > {objective!r}"),
        }
        self._of_calls = {name: said for name, said in by_call.items() if name in rules}
        self._of_rows = answers.bad_rows(rules, self._task)
        self._of_labels = answers.bad_labelled(rules, self._task)

    def divided(self) -> dict[str, Divided]:
        """Counts of both versions."""
        calls = self._calls(self._names[:1], ended=self._since)
        return {**self._by_call(calls), **self._by_row(calls)}

    def paired(self) -> dict[str, Paired]:
        """Differences on the same rows."""
        calls = self._calls(self._names)
        return {**self._pairs(calls), **self._pairs_of_rows(calls)}

    def labelled(self) -> dict[str, Divided]:
        """Counts of labelled rows of both versions."""
        rows = self._labelled(self._names[:1], _divided_labels(self._of_labels))
        return {name: _divided(rows, at) for at, name in enumerate(self._of_labels)} if rows else {}

    def labelled_pairs(self) -> dict[str, Paired]:
        """Differences on the same labelled rows."""
        rows = self._labelled(self._names, _paired_labels(self._of_labels))
        return {name: _paired(rows, at) for at, name in enumerate(self._of_labels)} if rows else {}

    def _calls(self, names: Sequence[str], ended: datetime | None = None) -> Any:
        """The rows of calls that can have ended in this stretch, as far as they count."""
        first = max(self._since - LONGEST, self._subject.arrived or self._subject.began)
        return self._records.calls(names, first, _ROWS, until=self._subject.ended, ended=ended)

    def _by_call(self, calls: Any) -> dict[str, Divided]:
        """By metric; and, as the ratio, how many calls there were at all."""
        counted = {**self._of_calls, RATIO: ("true", "false")}
        counts = ", ".join(
            f"count(*) FILTER ({of}) AS all{at}, count(*) FILTER ({of} AND {bad}) AS bad{at}"
            for at, (of, bad) in enumerate(counted.values())
        )
        sql = f"""
            SELECT {self._is_candidate()} AS candidate, {counts} FROM calls
            WHERE coalesce("row", 0) = 0 AND {self._within(_FINISH)} AND {self._either()} GROUP BY ALL"""
        rows = self._records.query(sql, {"calls": calls})
        return {name: _divided(rows, at) for at, name in enumerate(counted)}

    def _by_row(self, calls: Any) -> dict[str, Divided]:
        if not self._of_rows:
            return {}
        each = ", ".join(f"avg({bad}) AS bad{at}" for at, bad in enumerate(self._of_rows.values()))
        sums = ", ".join(f"count(*) AS all{at}, sum(bad{at}) AS bad{at}" for at in range(len(self._of_rows)))
        sql = f"""
            WITH each AS (
                SELECT any_value({self._is_candidate()}) AS candidate, {each} FROM calls
                WHERE outcome = 'ok' AND "row" IS NOT NULL AND {self._within(_FINISH)} AND {self._either()}
                GROUP BY segment, position)
            SELECT candidate, {sums} FROM each GROUP BY ALL"""
        rows = self._records.query(sql, {"calls": calls})
        return {name: _divided(rows, at) for at, name in enumerate(self._of_rows)}

    def _pairs(self, calls: Any) -> dict[str, Paired]:
        if not self._of_calls:
            return {}
        live, shadow = map(literal, self._names)
        bad = [f"CAST({of} AND {bad} AS DOUBLE)" for of, bad in self._of_calls.values()]
        sql = f"""
            WITH calls_ AS (
                SELECT deployment, request_id, outcome, {_FINISH} AS finish, latency_ms, {_listed(bad)} FROM calls
                WHERE coalesce("row", 0) = 0
                QUALIFY row_number() OVER (PARTITION BY deployment, request_id ORDER BY segment, position) = 1)
            SELECT c.request_id IS NULL AS alone, {_of_both(len(bad))}, count(*) AS many
            FROM (SELECT * FROM calls_ WHERE deployment = {live}) AS b
            LEFT JOIN (SELECT * FROM calls_ WHERE deployment = {shadow}) AS c USING (request_id)
            WHERE {self._within(_BOTH)} AND (c.request_id IS NOT NULL OR b.outcome <> 'ok')
            GROUP BY ALL ORDER BY ALL"""
        rows = self._records.query(sql, {"calls": calls})
        return {name: _paired(rows, at) for at, name in enumerate(self._of_calls)}

    def _pairs_of_rows(self, calls: Any) -> dict[str, Paired]:
        names, bad = list(self._of_rows), list(self._of_rows.values())
        columns = _of_both(len(bad))
        if "different" in self._rules:
            differs = answers.different(self._rules["different"].tolerance, "b.said", "c.said")
            columns += f"{', ' if bad else ''}0.0 AS b{len(bad)}, {differs} AS c{len(bad)}"
            names.append("different")
        if not names:
            return {}
        live, shadow = map(literal, self._names)
        sql = f"""
            WITH rows_ AS (
                SELECT deployment, prediction_id, "row", {_FINISH} AS finish, latency_ms,
                       {_listed(bad)}{"," if bad else ""} {answers.said(self._task)} AS said,
                       1.0 / count(*) OVER (PARTITION BY segment, position) AS weight FROM calls
                WHERE outcome = 'ok' AND "row" IS NOT NULL
                QUALIFY row_number() OVER (
                    PARTITION BY deployment, prediction_id, "row" ORDER BY segment, position) = 1)
            SELECT false AS alone, {columns}, sum(b.weight) AS many
            FROM (SELECT * FROM rows_ WHERE deployment = {live}) AS b
            JOIN (SELECT * FROM rows_ WHERE deployment = {shadow}) AS c USING (prediction_id, "row")
            WHERE {self._within(_BOTH)} GROUP BY ALL ORDER BY ALL"""
        rows = self._records.query(sql, {"calls": calls})
        return {name: _paired(rows, at) for at, name in enumerate(names)}

    def _labelled(self, names: Sequence[str], counting: str) -> list[dict[str, Any]]:
        """What `counting` makes of the rows whose first label came in this stretch."""
        if not self._of_labels:
            return []
        labels = self._records.labels(self._since)
        labels = labels.filter(_arrived_before(labels, self._until))
        if not labels.num_rows:
            return []
        began, ended = self._subject.arrived or self._subject.began, self._subject.ended
        tables = {
            "labels": labels,
            "known": self._records.labels(self._subject.began, ("prediction_id", "deployment", "key", "time")),
            **self._records.history(names, began, ended),
        }
        keys = self._key_columns(labels)
        live, shadow = map(literal, self._names)
        sql = f"""
            WITH {_first_labels(_moment(self._since))},
            rows_ AS ({self._history(names, began, ended, keys)}),
            named AS MATERIALIZED ({_named_rows(self._subject.deployment, keys)}),
            sizes AS (SELECT segment, position, count(*) AS size FROM rows_ SEMI JOIN named USING (segment, position)
                      GROUP BY ALL),
            judged AS (
                SELECT * EXCLUDE (label, size), 1.0 / size AS weight, {_listed(self._of_labels.values())},
                       {self._is_candidate()} AS candidate
                FROM named JOIN sizes USING (segment, position) WHERE {_FINISH} < {_moment(self._until)}
                QUALIFY row_number() OVER (PARTITION BY segment, position, "row") = 1)
            {counting.format(live=live, shadow=shadow, either=self._either())}"""
        return self._records.query(sql, tables)

    def _history(
        self, names: Sequence[str], began: datetime, ended: datetime | None, keys: Sequence[tuple[str, ...]]
    ) -> str:
        """The answered rows among which labelled ones are looked for."""
        columns = ", ".join(f'"{name}"' for name in (*_ROWS, *(["inputs"] if keys else [])))
        until = "" if ended is None else f" AND time < {_moment(ended)}"
        parts = (
            f"SELECT {columns} FROM waiting",
            f"SELECT {columns.replace(_TIME, _SHIPPED_TIME)} FROM shipped WHERE dropped IS NULL",
        )
        return f"""
            SELECT * FROM ({" UNION ALL ".join(parts)}) WHERE outcome = 'ok' AND "row" IS NOT NULL
                AND deployment IN ({", ".join(map(literal, names))}) AND time >= {_moment(began)}{until}"""

    def _key_columns(self, labels: Any) -> list[tuple[str, ...]]:
        sql = f"""
            SELECT DISTINCT json_keys(key) AS columns FROM labels
            WHERE key <> '' AND deployment = {literal(self._subject.deployment)} ORDER BY ALL"""
        return [tuple(row["columns"]) for row in self._records.query(sql, {"labels": labels})]

    def _within(self, moment: str) -> str:
        return f"{moment} >= {_moment(self._since)} AND {moment} < {_moment(self._until)}"

    def _is_candidate(self) -> str:
        return _is(self._subject.candidate)

    def _either(self) -> str:
        return f"({_is(self._subject.baseline)} OR {_is(self._subject.candidate)})"


def _divided_labels(metrics: Mapping[str, str]) -> str:
    sums = ", ".join(f"sum(weight) AS all{at}, sum(weight * v{at}) AS bad{at}" for at in range(len(metrics)))
    return f"SELECT candidate, {sums} FROM judged WHERE {{either}} GROUP BY ALL"


def _paired_labels(metrics: Mapping[str, str]) -> str:
    return f"""
        SELECT false AS alone, {_of_both(len(metrics))}, sum(b.weight) AS many
        FROM (SELECT * FROM judged WHERE deployment = {{live}}) AS b
        JOIN (SELECT * FROM judged WHERE deployment = {{shadow}}) AS c USING (prediction_id, "row")
        GROUP BY ALL ORDER BY ALL"""


def _listed(values: Iterable[str]) -> str:
    """Values as columns ``v0``, ``v1`` and so on."""
    return ", ".join(f"{value} AS v{at}" for at, value in enumerate(values))


def _of_both(many: int) -> str:
    """These of both versions as ``b0``, ``c0`` and so on."""
    return ", ".join(f"b.v{at} AS b{at}, c.v{at} AS c{at}" for at in range(many))


def _first_labels(since: str) -> str:
    """Labels of rows that had none before."""
    return f"""
        first AS (
            SELECT prediction_id, deployment, key,
                   arg_max(value, (coalesce(known_at, time), received_ns, position)) AS label
            FROM labels WHERE value IS NOT NULL GROUP BY ALL),
        fresh AS (
            FROM first ANTI JOIN (FROM known WHERE time < {since}) AS before USING (prediction_id, deployment, key))"""


def _named_rows(deployment: str, keys: Sequence[tuple[str, ...]]) -> str:
    """Rows with their labels, by id and by each kind of key."""
    found = ["SELECT rows_.*, label FROM rows_ JOIN (FROM fresh WHERE key = '') AS l USING (prediction_id)"]
    for columns in keys:
        names = ", ".join(map(literal, columns))
        mine = f"deployment = {literal(deployment)} AND json_keys(key) = [{names}]"
        labels = f"SELECT {key_expression('key', columns)} AS named, label FROM fresh WHERE key <> '' AND {mine}"
        rows = f"SELECT *, {key_expression('inputs', columns)} AS named FROM rows_"
        found.append(f"SELECT r.* EXCLUDE (named), label FROM ({rows}) AS r JOIN ({labels}) AS k USING (named)")
    return " UNION ALL ".join(found)


def _arrived_before(table: Any, until: datetime) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.less(table["time"], pa.scalar(until.replace(tzinfo=None), pa.timestamp("us")))


def _divided(rows: Sequence[Mapping[str, Any]], at: int) -> Divided:
    sides = {bool(row["candidate"]): (float(row[f"all{at}"] or 0.0), float(row[f"bad{at}"] or 0.0)) for row in rows}
    return Divided(*sides.get(False, (0.0, 0.0)), *sides.get(True, (0.0, 0.0)))


def _paired(rows: Sequence[Mapping[str, Any]], at: int) -> Paired:
    """Of calls that the candidate was not asked for nothing is known but that it cannot have done worse."""
    differences: dict[float, float] = {}
    least: dict[float, float] = {}
    asked = baseline = candidate = 0.0
    for row in rows:
        many, before = float(row["many"]), float(row[f"b{at}"])
        if row["alone"]:
            differences[0.0] = differences.get(0.0, 0.0) + many
            least[-before] = least.get(-before, 0.0) + many
            continue
        after = float(row[f"c{at}"])
        for known in (differences, least):
            known[after - before] = known.get(after - before, 0.0) + many
        asked, baseline, candidate = asked + many, baseline + many * before, candidate + many * after
    sums = Divided(asked, baseline, asked, candidate)
    return Paired(tuple(sorted(differences.items())), tuple(sorted(least.items())), sums)


def _moment(moment: datetime) -> str:
    return f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S.%f}'"


def _is(which: str) -> str:
    ref = Ref.parse(which)
    return f"(model = {literal(ref.model)} AND version = {ref.version})"
