"""Champion and challenger on the rows held back: overall, by slice, and what the gates say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelyard.errors import InvalidRequest
from modelyard.monitoring.performance.cuts import cuts
from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.retraining.paired import compared, pairable
from modelyard.retraining.plan import Gate
from modelyard.retraining.report import Compared, Passed, Slice

SMALLEST = 100
"""Rows of a slice, at least."""

UNUSABLE = 0.002
"""So many more of the rows, as a share, may a challenger leave without an answer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked: `metric` is that of gates that name none, `columns` are those whose parts are slices."""

    gates: tuple[Gate, ...]
    metric: str
    columns: tuple[str, ...]
    certainty: float

    def metric_of(self, gate: Gate) -> str:
        """The metric that a gate is about."""
        return gate.metric or self.metric


@dataclass(frozen=True, slots=True)
class Judgement:
    """Comparisons over all rows and in slices, and the gates."""

    whole: tuple[Compared, ...]
    slices: tuple[Slice, ...]
    gates: tuple[Passed, ...]


def usual_metric(task: Task) -> str:
    """The metric of a model for which none is named: a proper score where probabilities are, else the plainest.

    >>> usual_metric(Task(aim=Aim.REGRESSION, answer="predict"))
    'mae'
    """
    if task.aim is Aim.REGRESSION:
        return "mae"
    return "brier" if task.probabilities or task.together else "accuracy"


def usable(judged: Judged) -> NDArray[np.bool_]:
    """Rows with a label and an answer that counts."""
    if judged.task.aim is Aim.REGRESSION:
        there: NDArray[np.bool_] = np.isfinite(judged.answer)
        return judged.labelled & there
    there = judged.answer >= 0
    for scores in (judged.probabilities, judged.score):
        if scores is not None:
            there &= np.isfinite(scores).reshape(len(judged), -1).all(axis=1)
    return judged.labelled & there


def judge_both(champion: Judged, challenger: Judged, inputs: pa.Table, terms: Terms) -> Judgement:
    """Compare two versions on the same rows, all of them usable for both; `inputs` has a line for each.

    Raises:
        InvalidRequest: a gate names a metric in which the two cannot be compared.
    """
    there = pairable(champion, challenger)
    for gate in terms.gates:
        if terms.metric_of(gate) not in there:
            raise InvalidRequest(
                f"a gate is about {terms.metric_of(gate)}, in which these versions cannot be compared; there are: "
                f"{', '.join(there)}"
            )
    margins = {terms.metric_of(gate): gate.margin for gate in terms.gates if not gate.slices}
    whole = tuple(compared(champion, challenger, name, terms.certainty, margins.get(name, 0.0)) for name in there)
    slices = tuple(_slices(champion, challenger, inputs, terms))
    by_name = {each.metric: each for each in whole}
    gates = tuple(
        _of_slices(gate, terms.metric_of(gate), slices, terms.certainty)
        if gate.slices
        else _of_all(gate, by_name[terms.metric_of(gate)])
        for gate in terms.gates
    )
    return Judgement(whole, slices, gates)


def answers_enough(rows: int, old: int, new: int) -> Passed:
    """The gate that is always there: `old` and `new` of so many rows got no answer that counts.

    >>> answers_enough(1000, 0, 50).passed
    False
    """
    passed = new <= old + UNUSABLE * rows
    said = f"{new:,} of {rows:,} rows without an answer that counts, {old:,} by the version in use"
    return Passed(gate="it answers", passed=passed, said=said)


def _slices(champion: Judged, challenger: Judged, inputs: pa.Table, terms: Terms) -> Sequence[Slice]:
    metrics = dict.fromkeys(terms.metric_of(gate) for gate in terms.gates if gate.slices)
    parts = [
        (cut.column, name, np.flatnonzero(codes == code))
        for cut in cuts(inputs, terms.columns, SMALLEST)
        for codes in [cut.codes(inputs)]
        for code, name in enumerate(cut.names)
    ]
    parts = [part for part in parts if len(part[2]) >= SMALLEST]
    level = 1 - (1 - terms.certainty) / max(1, len(parts) * len(metrics))
    return [
        Slice(
            column=column,
            name=name,
            rows=len(rows),
            compared=compared(champion.take(rows), challenger.take(rows), metric, level),
        )
        for metric in metrics
        for column, name, rows in parts
    ]


def _of_all(gate: Gate, found: Compared) -> Passed:
    name = f"{found.metric} of all rows"
    worse = found.worse
    if worse.value is None or worse.high is None or worse.low is None:
        return Passed(gate=name, passed=False, said="too few rows of each class to say")
    said = (
        f"{figure(found.champion.value)} by the version in use, {figure(found.challenger.value)} by the challenger: "
        f"{better(worse.value)} ({better(worse.high)} to {better(worse.low)}); "
    )
    passed = worse.high < gate.margin
    wanted = "is better" if gate.margin == 0 else f"is worse by less than {figure(gate.margin)}"
    return Passed(gate=name, passed=passed, said=said + f"{'shown' if passed else 'not shown'} that it {wanted}")


def _of_slices(gate: Gate, metric: str, slices: Sequence[Slice], certainty: float) -> Passed:
    mine = [each for each in slices if each.compared.metric == metric]
    name = f"{metric} of every slice"
    harmed = [each for each in mine if each.compared.worse.low is not None and each.compared.worse.low > gate.margin]
    if not harmed:
        said = f"of {len(mine)} slices none is shown to be worse by more than {figure(gate.margin)}"
        return Passed(gate=name, passed=True, said=said)
    worst = max(harmed, key=lambda each: each.compared.worse.low or 0.0)
    said = (
        f"{len(harmed)} of {len(mine)} slices are shown to be worse by more than {figure(gate.margin)}, with "
        f"{certainty:.0%} for all together; most of all {worst.name} ({better(worst.compared.worse.value)}, "
        f"{worst.rows:,} rows)"
    )
    return Passed(gate=name, passed=False, said=said)


def figure(value: float | None) -> str:
    """A value of a metric in text.

    >>> figure(0.03127), figure(None)
    ('0.0313', '-')
    """
    return "-" if value is None else f"{value:.3g}"


def better(worse: float | None) -> str:
    """A difference in words.

    >>> better(-0.0042), better(0.1), better(0.0)
    ('better by 0.0042', 'worse by 0.1', 'the same')
    """
    if worse is None:
        return "not known"
    if worse == 0:
        return "the same"
    return f"{'worse' if worse > 0 else 'better'} by {abs(worse):.3g}"
