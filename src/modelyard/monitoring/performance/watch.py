"""The watch of performance: labels hold every version against what its answers were like at first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring import worsening
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.performance.baseline import LADDER, Baseline, Stream, baseline, severities, timely
from modelyard.monitoring.performance.evidence import Gathered, gains, gathered_on, stretched
from modelyard.monitoring.performance.judged import Judged, held_out, judge, strangers
from modelyard.monitoring.performance.located import Spell, located
from modelyard.monitoring.performance.metrics import METRICS
from modelyard.monitoring.performance.spells import together, with_early
from modelyard.monitoring.performance.streams import COVERAGE, as_metric, values
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Facts
from modelyard.monitoring.worsening import Ladder, Worsening

_TOLD = 0.01
"""Findings are told from this part of the evidence on that an alarm needs."""

_STRANGE = 0.01
"""This share of labels that are no class of the model is worth an alarm."""

_LEAST_STRANGE = 5


class State(msgspec.Struct, frozen=True):
    """What was found at first, up to where rows have been taken in (microseconds since 1970), and what was gathered."""

    baseline: Baseline | None = None
    taken: int = 0
    gathered: tuple[Gathered, ...] = ()
    worse: worsening.State = worsening.State()
    labelled: int = 0
    """How many of the rows that were taken in had a label in time."""
    spell: Spell | None = None
    """The last stretch in which one alarm followed the other."""


class Performance:
    """Evidence that metrics, those of slices included, are worse than in the baseline; and that labels stay away."""

    name = "performance"
    share = 0.25
    state = State

    def start(self, reference: Reference, settings: Settings) -> State:
        """No row taken in."""
        del reference, settings
        return State()

    def look(self, state: State, table: Any, facts: Facts) -> tuple[State, Sequence[Finding]]:
        """Take in the rows of steps that are complete: each row once, at the same age of its labels."""
        task = task_of(facts, table.column_names)
        if task is None:
            return state, ()
        judged = judge(table, task)
        found = list(_strange(facts, table, judged))
        now, early = _microseconds(facts.now), list[Finding]()
        if state.baseline is None:
            inputs = _inputs(facts, table.column_names)
            made = baseline(table, judged, inputs, now, facts.settings, held_out(facts.holdout, task))
            if made is None:
                return state, found
            state = _begun(made, facts.settings)
            state, early = _promised(state, table, judged, facts)
        look = _Look(state, table, judged, facts, now)
        after, findings = look.taken()
        findings = with_early(early, findings)
        findings, spell = located(findings, table, task, _inputs(facts, table.column_names), state.spell)
        return msgspec.structs.replace(after, spell=spell), [*found, *findings]

    def judged(self, before: State, after: State) -> Sequence[str]:
        """All of it where rows with labels were taken in; of rows without any label only that they have none."""
        if after.labelled > before.labelled:
            return (self.name,)
        return (f"{self.name}.{COVERAGE}",) if after.taken > before.taken > 0 else ()


def task_of(facts: Facts, columns: Sequence[str]) -> Task | None:
    """What the columns of a version's answers are; None where labels say nothing about them."""
    names = list(dict.fromkeys(_plain(each).partition("[")[0] for each in facts.outputs))
    if facts.task == "regression":
        answer = next((name for name in names if name in columns), "")
        return Task(aim=Aim.REGRESSION, answer=answer) if answer else None
    if facts.task != "classification" or len(facts.classes) < 2:
        return None
    said = [str(each).lower() if isinstance(each, bool) else str(each) for each in facts.classes]
    with_classes = [name for name in names if any(f"{name}[" in each for each in facts.outputs)]
    probability = next((name for name in with_classes if "proba" in name), next(iter(with_classes), ""))
    answer = next((name for name in names if name in columns and name != probability), "")
    found = Task(
        aim=Aim.BINARY if len(said) == 2 else Aim.MULTICLASS,
        answer=answer,
        classes=tuple(facts.classes),
        probabilities=tuple(f"{probability}_{each}" for each in said) if probability else (),
        together=probability,
    )
    return found.about(facts.settings.positive) if facts.settings.positive in said else found


def _plain(name: str) -> str:
    return name.removeprefix("output:")


def _inputs(facts: Facts, columns: Sequence[str]) -> list[str]:
    """Columns by which rows can be told apart: the inputs, and those that were declared."""
    known = [name for name in facts.reference.described if name not in facts.outputs]
    return [name for name in dict.fromkeys([*facts.settings.slices, *known]) if name in columns]


def _begun(made: Baseline, settings: Settings) -> State:
    step = round(made.step * 1e6)
    start = -(-made.until // step) * step
    begun = _worsening(made, settings).start() if sum(made.severities) else worsening.State()
    return State(made, start, tuple(Gathered() for _ in made.streams), begun)


def _worsening(made: Baseline, settings: Settings) -> Worsening:
    counts = np.array(made.severities, dtype=np.int64)
    needed = settings.needed / LADDER
    return Worsening(Ladder(made.rungs), counts, needed, settings.certainty, made.together)


def _promised(state: State, table: Any, judged: Judged, facts: Facts) -> tuple[State, list[Finding]]:
    """The first rows, of which the baseline is made, held against what training promised."""
    made = state.baseline
    if made is None or not any(stream.promised for stream in made.streams):
        return state, []
    step = round(made.step * 1e6)
    before = msgspec.structs.replace(state, taken=made.began // step * step)
    look = _Look(before, table, judged, facts, state.taken + round(made.age * 1e6))
    gathered, findings = look.streams(lambda stream: stream.promised)
    return msgspec.structs.replace(state, gathered=gathered), findings


class _Look:
    """One look at the rows of complete steps that have not been taken in before."""

    def __init__(self, state: State, table: Any, judged: Judged, facts: Facts, now: int) -> None:
        assert state.baseline is not None  # noqa: S101 - the caller makes one first
        self._state, self._made, self._facts = state, state.baseline, facts
        self._step = round(self._made.step * 1e6)
        self._until = max(state.taken, (now - round(self._made.age * 1e6)) // self._step * self._step)
        moments = judged.moments.astype(np.int64)
        rows = np.flatnonzero((moments >= state.taken) & (moments < self._until))
        rows = rows[np.argsort(moments[rows], kind="stable")]
        self._judged, self._table = judged.take(rows), table.take(rows)
        self._steps = (moments[rows] - state.taken) // self._step
        self._number = (self._until - state.taken) // self._step
        ends = state.taken + (self._steps + 1) * self._step
        self._known = timely(self._judged, ends, self._made.age)
        self._of_all: dict[str, tuple[Stream, Array, Array]] = {}
        self._stretches: dict[str, Array] = {}

    @cached_property
    def _codes(self) -> list[Array]:
        return [cut.codes(self._table) for cut in self._made.cuts]

    @cached_property
    def _began(self) -> list[datetime]:
        return [_moment(self._state.taken + at * self._step) for at in range(self._number)]

    def taken(self) -> tuple[State, list[Finding]]:
        """What was gathered after it, and what is found."""
        if not self._number:
            return self._state, []
        gathered, findings = self.streams(lambda stream: True)
        worse, found = self._worsened()
        labelled = self._state.labelled + int(self._known.sum())
        return State(self._made, self._until, gathered, worse, labelled), [*found, *findings]

    def streams(self, wanted: Callable[[Stream], bool]) -> tuple[tuple[Gathered, ...], list[Finding]]:
        """What was gathered about each mean, and what is found; those that are not wanted stay as they are."""
        findings: list[Finding] = []
        gathered = []
        for stream, before in zip(self._made.streams, self._state.gathered, strict=True):
            after, found = self._stream(stream, before) if wanted(stream) else (before, [])
            gathered.append(after)
            findings += found
        return tuple(gathered), findings

    def _stream(self, stream: Stream, before: Gathered) -> tuple[Gathered, list[Finding]]:
        """Evidence about one mean, step by step. An alarm makes it begin anew; several are told as one."""
        told, steps = self._values(stream)
        gained = gains(told, steps, self._number, stream.limit, self._made.together)
        counts, sums = np.bincount(steps, minlength=self._number), np.bincount(steps, told, self._number)
        needed = self._facts.settings.needed / stream.weight
        if stream.cut < 0 and not stream.promised:
            self._of_all[stream.metric] = stream, np.cumsum(counts), np.cumsum(sums)
            self._stretches[stream.metric] = np.zeros(self._number)
        usual = (stream.mean + stream.limit) / 2
        after, at, found = before, 0, None
        alarms: list[Finding] = []
        while at < self._number:
            logs, reached, taken = gathered_on(after, gained[at:], self._made.step, needed)
            part = slice(at, at + taken)
            after = stretched(after, counts[part], sums[part], usual, self._began[part])
            after, at = msgspec.structs.replace(after, logs=logs), at + taken
            if stream.cut < 0 and not stream.promised and after.mean is not None:
                self._stretches[stream.metric][part] = self._worse_by(stream, after.mean)
            found = None
            if reached >= needed * _TOLD and after.mean is not None:
                found = self._finding(stream, after, reached * stream.weight, at - 1)
                if found.alarm:
                    alarms.append(found)
                    after = Gathered()
        return after, [each for each in (together(alarms) or found,) if each is not None]

    def _values(self, stream: Stream) -> tuple[Array, Array]:
        rows = np.ones(len(self._judged), dtype=bool) if stream.cut < 0 else self._codes[stream.cut] == stream.part
        if stream.metric == COVERAGE:
            return (~self._known[rows]).astype(np.float64), self._steps[rows]
        chosen = np.flatnonzero(rows & self._known)
        return values(self._judged.take(chosen), stream.metric, stream.unit, self._steps[chosen])

    def _finding(self, stream: Stream, after: Gathered, evidence: float, step: int) -> Finding:
        was, now = (as_metric(each, stream.metric, stream.unit) for each in (stream.mean, after.mean or 0.0))
        metric = stream.metric.rstrip("+-")
        effect = self._worse_by(stream, after.mean or 0.0)
        if stream.slice:
            # What all rows had in common then is told of all of them, and not once more of every slice.
            effect -= max(0.0, self._of_all_worse_by(stream.metric, after.since, step))
        margin = self._facts.settings.harm * (abs(was) if metric in _RELATIVE else 1.0)
        if metric == "bias":
            margin = self._facts.settings.harm * self._error
        where = f" where {stream.slice}" if stream.slice else ""
        at_first = f"{was:.3g} at first"
        if stream.promised:
            at_first = f"{was:.3g} over {stream.rows:,} rows held out of training"
        said = f"{metric}{where}: {now:.3g} over {after.rows:,} rows, {at_first}"
        if metric == COVERAGE:
            said = f"labels{where}: {now:.1%} of {after.rows:,} rows have one in time, {was:.1%} at first"
        return self._facts.finding(
            "performance.promised" if stream.promised else f"performance.{metric}",
            said,
            subject=metric,
            slice=stream.slice,
            evidence=evidence,
            needed=self._facts.settings.needed,
            effect=effect,
            margin=margin,
            window=self._began[step],
            since=after.since,
            details={"was": was, "now": now, "rows": after.rows, "baseline_rows": stream.rows},
        )

    def _worse_by(self, stream: Stream, mean: float) -> float:
        was, now = (as_metric(each, stream.metric, stream.unit) for each in (stream.mean, mean))
        return worse_by(stream.metric.rstrip("+-"), was, now)

    def _of_all_worse_by(self, metric: str, since: datetime | None, last: int) -> float:
        """How much worse all rows were in the steps from that moment to the `last`, or in their own bad stretch then.

        A stretch is chosen for being bad, that of a slice as that of all rows, so like is held against like as well.
        """
        if metric not in self._of_all or since is None:
            return 0.0
        stream, counts, sums = self._of_all[metric]
        first = max(0, (_microseconds(since) - self._state.taken) // self._step)
        rows, total = (each[last] - (each[first - 1] if first else 0) for each in (counts, sums))
        same = self._worse_by(stream, float(total / rows)) if rows else 0.0
        return max(same, float(self._stretches[metric][last]))

    @cached_property
    def _error(self) -> float:
        """The usual size of an error in the baseline."""
        found = next((each for each in self._made.streams if each.metric == "mae" and each.cut < 0), None)
        return as_metric(found.mean, "mae", found.unit) if found else 1.0

    def _worsened(self) -> tuple[worsening.State, list[Finding]]:
        """Evidence from how sure wrong answers were, or how far off numbers were."""
        if not sum(self._made.severities):
            return self._state.worse, []
        watch, state = _worsening(self._made, self._facts.settings), self._state.worse
        labelled = np.flatnonzero(self._known)
        ladder = Ladder(self._made.rungs)
        rung = np.searchsorted(np.array(ladder.rungs), severities(self._judged.take(labelled)), "right")
        width = len(ladder.rungs) + 1
        counts = np.bincount(self._steps[labelled] * width + rung, minlength=self._number * width).reshape(-1, width)
        alarms: list[Finding] = []
        verdict = None
        for step, each in enumerate(counts):
            state, verdict = watch.step(state, each.astype(np.int64), self._made.step)
            if verdict.evidence >= 1:
                found = self._severe(verdict, step)
                if found.alarm:
                    alarms.append(found)
                    state = watch.start()
        told = together(alarms)
        if told is None and verdict is not None and verdict.evidence >= _TOLD:
            told = self._severe(verdict, self._number - 1)
        return state, [] if told is None else [told]

    def _severe(self, verdict: worsening.Verdict, step: int) -> Finding:
        """By accuracy of classes; of numbers by the share that is further off than half of them were at first."""
        settings, aim = self._facts.settings, self._judged.task.aim
        was, now = 1 - verdict.baseline, 1 - verdict.share
        metric = "accuracy" if aim is not Aim.REGRESSION else "mae"
        said = f"accuracy: {now:.3g} over {verdict.rows:,} rows, {was:.3g} at first"
        if aim is Aim.REGRESSION:
            said = (
                f"errors: {verdict.share:.1%} of {verdict.rows:,} rows are off by {verdict.rung:.4g} or more, "
                f"{verdict.baseline:.1%} by as much at first"
            )
        elif verdict.rung > self._made.rungs[0]:
            said += f"; most of it where the answer was sure ({verdict.rung:.2f} or more)"
        ended = self._state.taken + (step + 1) * self._step
        return self._facts.finding(
            "performance.errors",
            said,
            subject=metric,
            evidence=verdict.evidence * settings.needed,
            needed=settings.needed,
            effect=verdict.effect,
            margin=settings.harm,
            window=self._began[step],
            since=_moment(ended - round(verdict.seconds * 1e6)),
            details={"was": was, "now": now, "rows": verdict.rows, "baseline_rows": self._made.labelled},
        )


_RELATIVE = ("mae", "rmse")


def worse_by(metric: str, was: float, now: float) -> float:
    """How much worse, in the metric's own unit.

    >>> round(worse_by("coverage", 0.9, 0.7), 3), worse_by("mae", 2.0, 3.0)
    (0.2, 1.0)
    """
    if metric == COVERAGE:
        return was - now
    if metric == "bias":
        return abs(now - was)
    return METRICS[metric].worse_by(was, now)


def _strange(facts: Facts, table: Any, judged: Judged) -> Iterator[Finding]:
    """Labels that are no class of the model: more likely written otherwise than a new class."""
    odd: Mapping[str, int] = strangers(table, judged.task)
    many, known = sum(odd.values()), int(judged.labelled.sum())
    if many < _LEAST_STRANGE:
        return
    some = ", ".join(repr(each) for each in list(odd)[:3])
    share = many / (many + known)
    yield facts.finding(
        "performance.labels",
        f"{share:.1%} of the labels are no class of this model, such as {some}",
        subject="label",
        evidence=float("inf"),
        needed=facts.settings.needed,
        effect=share,
        margin=_STRANGE,
        details={"labels": dict(odd)},
    )


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)
