# Names and texts in this SQL are quoted; what users write is no part of it.
# ruff: noqa: S608
"""Labelled rows of both versions of a rollout: each counts once, when its first label comes, by id or by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard.records.label_views import key_expression
from modelyard.records.sqltext import literal
from modelyard.rollout.batches import Divided, Paired
from modelyard.rollout.sqlparts import (
    FINISH,
    ROWS,
    SHIPPED_TIME,
    TIME,
    divided_of,
    either_of,
    is_version,
    listed,
    moment,
    of_both,
    paired_of,
)
from modelyard.rollout.subject import Recent, Subject

_KNOWN = ("prediction_id", "deployment", "key", "time")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows whose first label came from `since` to before `until` (UTC), whenever they were answered.

    `metrics` says for each name, in SQL, how bad an answer is in the light of the column ``label``.
    """

    records: Recent
    subject: Subject
    since: datetime
    until: datetime
    metrics: Mapping[str, str]

    def divided(self, names: Sequence[str]) -> dict[str, Divided]:
        """Counts of both versions, of calls to the first of these deployments."""
        sums = ", ".join(f"sum(weight) AS all{at}, sum(weight * v{at}) AS bad{at}" for at in range(len(self.metrics)))
        rows = self._counted(names[:1], f"SELECT candidate, {sums} FROM judged WHERE {self._either()} GROUP BY ALL")
        return {name: divided_of(rows, at) for at, name in enumerate(self.metrics)} if rows else {}

    def paired(self, names: Sequence[str]) -> dict[str, Paired]:
        """Differences on the rows that both answered, the second deployment in the shadow of the first."""
        live, shadow = map(literal, names)
        rows = self._counted(
            names,
            f"""
            SELECT 'both' AS asked, {of_both(len(self.metrics))}, sum(b.weight) AS many
            FROM (SELECT * FROM judged WHERE deployment = {live}) AS b
            JOIN (SELECT * FROM judged WHERE deployment = {shadow}) AS c USING (prediction_id, "row")
            GROUP BY ALL ORDER BY ALL""",
        )
        return {name: paired_of(rows, at) for at, name in enumerate(self.metrics)} if rows else {}

    def _counted(self, names: Sequence[str], counting: str) -> list[dict[str, Any]]:
        """What `counting` makes of the table ``judged``."""
        if not self.metrics:
            return []
        labels = self.records.labels(self.since)
        labels = labels.filter(_arrived_before(labels, self.until))
        if not labels.num_rows:
            return []
        known = self.records.labels(self.subject.began, _KNOWN)
        before = known.filter(_arrived_before(known, self.since))
        began, ended = self.subject.arrived or self.subject.began, self.subject.ended
        tables = {"labels": labels, "before": before, **self.records.history(names, began, ended)}
        new, old = self._key_columns(labels), self._key_columns(before)
        sql = f"""
            WITH {_FIRST_LABELS},
            rows_ AS ({self._history(names, began, ended, with_keys=bool(new or old))}),
            named AS MATERIALIZED ({_not_before(self._named(new), [self._keyed("before", each) for each in old])}),
            sizes AS (SELECT segment, position, count(*) AS size FROM rows_ SEMI JOIN named USING (segment, position)
                      GROUP BY ALL),
            judged AS (
                SELECT * EXCLUDE (label, size), 1.0 / size AS weight, {listed(self.metrics.values())},
                       {is_version(self.subject.candidate)} AS candidate
                FROM named JOIN sizes USING (segment, position) WHERE {FINISH} < {moment(self.until)}
                QUALIFY row_number() OVER (PARTITION BY segment, position, "row" ORDER BY by_key, label) = 1)
            {counting}"""
        return self.records.query(sql, tables)

    def _history(self, names: Sequence[str], began: datetime, ended: datetime | None, *, with_keys: bool) -> str:
        """The answered rows among which labelled ones are looked for."""
        columns = ", ".join(f'"{name}"' for name in (*ROWS, *(["inputs"] if with_keys else [])))
        until = "" if ended is None else f" AND time < {moment(ended)}"
        parts = (
            f"SELECT {columns} FROM waiting",
            f"SELECT {columns.replace(TIME, SHIPPED_TIME)} FROM shipped WHERE dropped IS NULL",
        )
        return f"""
            SELECT * FROM ({" UNION ALL ".join(parts)}) WHERE outcome = 'ok' AND "row" IS NOT NULL
                AND deployment IN ({", ".join(map(literal, names))}) AND time >= {moment(began)}{until}"""

    def _key_columns(self, labels: Any) -> list[tuple[str, ...]]:
        """Which columns the keys of labels are made of, each combination once."""
        sql = f"""
            SELECT DISTINCT json_keys(key) AS columns FROM labels
            WHERE key <> '' AND deployment = {literal(self.subject.deployment)} ORDER BY ALL"""
        return [tuple(row["columns"]) for row in self.records.query(sql, {"labels": labels})]

    def _named(self, keys: Sequence[tuple[str, ...]]) -> str:
        """Rows with their labels, by id and by each kind of key; one that both name goes by its id."""
        by_id = "(SELECT prediction_id, label FROM fresh WHERE key = '')"
        found = [f"SELECT rows_.*, label, false AS by_key FROM rows_ JOIN {by_id} AS l USING (prediction_id)"]
        for columns in keys:
            row_key, label_key, labels = self._keyed("fresh", columns)
            found.append(f"""
                SELECT rows_.*, label, true AS by_key FROM rows_
                JOIN (SELECT {label_key} AS named, label FROM {labels}) AS k ON {row_key} = k.named""")
        return " UNION ALL ".join(found)

    def _keyed(self, table: str, columns: tuple[str, ...]) -> tuple[str, str, str]:
        """How keys of these columns are said of a row and of a label, and which labels of `table` have such."""
        names = ", ".join(map(literal, columns))
        mine = f"deployment = {literal(self.subject.deployment)} AND json_keys(key) = [{names}]"
        labels = f"(SELECT * FROM {table} WHERE key <> '' AND {mine})"
        return key_expression("inputs", columns), key_expression("key", columns), labels

    def _either(self) -> str:
        return either_of(self.subject.baseline, self.subject.candidate)


_FIRST_LABELS = """
    first AS (
        SELECT prediction_id, deployment, key,
               arg_max(value, (coalesce(known_at, time), received_ns, position)) AS label
        FROM labels WHERE value IS NOT NULL GROUP BY ALL),
    fresh AS (FROM first ANTI JOIN before USING (prediction_id, deployment, key))"""
"""Labels of rows that had none before by that name."""


def _not_before(rows: str, keys: Sequence[tuple[str, str, str]]) -> str:
    """Those of some rows that had no label before by another of their names."""
    found = f"SELECT * FROM ({rows}) ANTI JOIN (SELECT prediction_id FROM before WHERE key = '') USING (prediction_id)"
    for row_key, label_key, labels in keys:
        there = f"SELECT {label_key} AS named FROM {labels} WHERE named IS NOT NULL"
        found = f"SELECT * FROM ({found}) WHERE coalesce({row_key} NOT IN ({there}), true)"
    return found


def _arrived_before(table: Any, until: datetime) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.less(table["time"], pa.scalar(until.replace(tzinfo=None), pa.timestamp("us")))
