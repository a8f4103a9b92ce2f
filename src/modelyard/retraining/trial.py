"""A challenger on trial: the rows that neither version was trained on, both versions' answers to them, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelyard.bundle.tabular import to_arrow
from modelyard.errors import Failed, InvalidRequest
from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.task import Task
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.store import MonitorStore
from modelyard.records.query import RecordDatabase
from modelyard.registry import Registry, Version
from modelyard.retraining import material
from modelyard.retraining.computing import answers_to, judged_of
from modelyard.retraining.holding import Known, plain, said_of
from modelyard.retraining.judging import Terms, answers_enough, judge_both, usable, usual_metric
from modelyard.retraining.plan import Plan
from modelyard.retraining.report import Data, Evaluation
from modelyard.retraining.rows import Marks, Rows, moment, rows_between


class Declined(Exception):
    """There is a challenger, and it goes no further."""


@dataclass(frozen=True, slots=True, eq=False)
class _Both:
    """Two versions' answers to the same rows that count for both. `lacking`: how many of `asked` rows got none."""

    champion: Judged
    challenger: Judged
    inputs: pa.Table
    task: Task
    asked: int
    lacking: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is judged, and by which plan. `known` is what the champion was trained on."""

    registry: Registry
    deployment: str
    plan: Plan
    champion: Version
    challenger: Version
    known: Known

    def judged(self, database: RecordDatabase, trained_on: Data, folder: Path) -> Evaluation:
        """Champion and challenger, which was trained on what is in `folder`, on rows new to both.

        Raises:
            Declined: there are too few rows, or one of them cannot answer them.
            Failed: it is not known what the challenger was trained on.
            InvalidRequest: a gate or slice of the plan means nothing for these versions.
        """
        rows, fair, excluded = self._new_to_both(database, trained_on, folder)
        settings = MonitorStore(self.registry.database).settings(self.deployment)
        both = self._answers(rows, self.plan.positive or settings.positive)
        terms = _terms(self.plan, settings, both.task, both.inputs.column_names)
        found = judge_both(both.champion, both.challenger, both.inputs, terms)
        moments = both.champion.moments
        return Evaluation(
            rows=len(both.champion),
            since=moment(moments.min()),
            until=moment(moments.max()),
            fair=fair,
            excluded={why: number for why, number in excluded.items() if number},
            whole=found.whole,
            slices=found.slices,
            gates=(*found.gates, answers_enough(both.asked, *both.lacking)),
            certainty=terms.certainty,
        )

    def _new_to_both(
        self, database: RecordDatabase, trained_on: Data, folder: Path
    ) -> tuple[Rows, str, dict[str, int]]:
        """The labelled rows that neither version was trained on, why that is known, and how many were left out."""
        since, fair = self._new_to_the_challenger(trained_on)
        rows = rows_between(database, self.deployment, since, None)
        arrays = [rows.table[name].to_numpy().astype("datetime64[us]") for name in ("event_time", "time")]
        new = self.known.new_to_it(Marks(*arrays))
        excluded = {"the version in use may have been trained on them": int((~new).sum())}
        if self.plan.key and (self.plan.sources or self.plan.query):
            seen = _seen(rows, material.keys_in(folder, self.plan.key), self.plan)
            excluded["they are in the new version of the data"] = int((seen & new).sum())
            new &= ~seen
            fair += f", and are not in it by {', '.join(self.plan.key)}"
        self._require(int(new.sum()), "that neither version was trained on")
        return rows.take(np.flatnonzero(new)), f"{fair}; {self.known.said}", excluded

    def _new_to_the_challenger(self, trained_on: Data) -> tuple[np.datetime64 | None, str]:
        if trained_on.until is not None:
            at = plain(trained_on.until)
            return at, f"the challenger was trained on rows before {said_of(at)}"
        if self.plan.key:
            return None, "the challenger was trained on a snapshot"
        raise Failed(
            "nothing tells which of the records the new version of the data holds, so a challenger cannot be judged "
            "fairly: set `time` or `key` in [retrain], or use {until} in the query"
        )

    def _answers(self, rows: Rows, positive: str) -> _Both:
        bundles = [self.registry.bundle(version) for version in (self.champion, self.challenger)]
        told = [answers_to(bundle, self.registry.home, rows.documents) for bundle in bundles]
        for version, each in zip((self.champion, self.challenger), told, strict=True):
            if each.frame is None:
                raise Declined(
                    f"{version.ref} takes none of the {len(rows)} recorded rows: their columns are not those it needs"
                )
        _, *places = np.intersect1d(told[0].rows, told[1].rows, return_indices=True)
        tasks = [Task.of(bundle.manifest.schema) for bundle in bundles]
        judged = [
            judged_of(each, at, rows, task.about(positive), task)
            for each, at, task in zip(told, places, tasks, strict=True)
        ]
        good = [usable(each) for each in judged]
        kept = np.flatnonzero(good[0] & good[1])
        self._require(len(kept), "with an answer of both that counts")
        assert told[0].frame is not None  # noqa: S101 - it was looked at above
        return _Both(
            judged[0].take(kept),
            judged[1].take(kept),
            to_arrow(told[0].frame.take(places[0][kept]), bundles[0].manifest.schema),
            tasks[0].about(positive),
            len(rows),
            (_lacking(rows, told[0].rows, good[0]), _lacking(rows, told[1].rows, good[1])),
        )

    def _require(self, rows: int, which: str) -> None:
        if rows < self.plan.least:
            raise Declined(f"there are only {rows} labelled rows {which}; {self.plan.least} are needed (`least`)")


def _lacking(asked: Rows, told: NDArray[np.intp], good: NDArray[np.bool_]) -> int:
    """Rows that were refused, or whose answer does not count."""
    return len(asked) - len(told) + int((~good).sum())


def _terms(plan: Plan, settings: Settings, task: Task, columns: list[str]) -> Terms:
    metric = plan.metric or settings.metric or usual_metric(task)
    wanted = plan.slices or settings.slices or tuple(columns)
    if unknown := sorted(set(plan.slices) - set(columns)):
        raise InvalidRequest(f"[retrain] slices: {unknown[0]!r} is no input; there are {', '.join(columns)}")
    return Terms(plan.gates, metric, tuple(name for name in wanted if name in columns), plan.certainty)


def _seen(rows: Rows, keys: set[tuple[str, ...]], plan: Plan) -> NDArray[np.bool_]:
    """Which records are in the data, by its key columns; `columns` says what a key is called in the records."""
    columns = []
    for name in plan.key:
        source = plan.columns.get(name, name)
        if source in rows.table.column_names:
            columns.append(material.key_texts(rows.table[source].to_pylist()))
        else:
            columns.append(material.key_texts([document.get(source) for document in rows.documents]))
    return np.array([each in keys for each in zip(*columns, strict=True)], dtype=np.bool_)
