"""A retraining as lines of text and tables of figures, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.monitoring.performance.intervals import Measure
from modelyard.retraining.judging import better, figure
from modelyard.retraining.report import Compared, Evaluation, Report, Slice

SHOWN = 5
"""So many slices are told that got better, and as many that got worse."""


def lines(report: Report) -> list[str]:
    """What happened, a line each."""
    found = [
        f"retraining {report.id} of {report.deployment}: {report.state}"
        + (f", {report.stage}" if report.state == "running" else ""),
        f"began {report.began:%Y-%m-%d %H:%M:%S} UTC, {occasion(report)}",
    ]
    found += [f"what came of it: {report.reason}"] if report.reason else []
    if report.data is not None:
        found.append(f"trained on {report.data.ref}: {report.data.origin}")
    if report.run:
        took = "" if report.run_seconds is None else f", {report.run_seconds:.1f} s"
        said = "".join(f", {name} {value:.3g}" for name, value in list(report.run_metrics.items())[:6])
        found.append(f"run {report.run}{took}{said}")
    if report.challenger:
        proof = f": {report.proof}" if report.proof else ""
        found.append(f"challenger {report.challenger}{proof}; in use {report.champion}")
    if report.evaluation is not None:
        found.append(judged_on(report.evaluation))
    if report.rollout:
        found.append(f"rollout: {report.rollout}; `modelyard rollout show {report.deployment}`")
    return found


def occasion(report: Report) -> str:
    """Why it began and who began it.

    >>> from datetime import UTC, datetime
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> occasion(Report(deployment="a", model="m", champion="m@1", began=at, trigger="alert", why="x moved"))
    'on an alert: x moved'
    """
    names = {"hand": "by hand", "alert": "on an alert", "schedule": "on schedule", "labels": "on new labels"}
    by = f" of {report.by}" if report.trigger == "hand" and report.by else ""
    return f"{names[report.trigger]}{by}{f': {report.why}' if report.why else ''}"


def judged_on(found: Evaluation) -> str:
    """Which rows it was judged on."""
    between = f", {found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M}" if found.since and found.until else ""
    left = "".join(f"; {number:,} left out: {why}" for why, number in found.excluded.items())
    return f"judged on {found.rows:,} labelled rows{between}, which neither was trained on: {found.fair}{left}"


METRICS = ("metric", "in use", "challenger", "difference", "between", "independent")
SLICES = ("slice", "rows", "metric", "in use", "challenger", "difference", "between")
GATES = ("gate", "", "on what")


def metric_cells(found: Evaluation) -> list[list[str]]:
    """A line for each metric over all rows."""
    return [
        [each.metric, measure(each.champion), measure(each.challenger), *difference(each), each.blocks]
        for each in found.whole
    ]


def slice_cells(slices: Sequence[Slice]) -> list[list[str]]:
    """A line for each slice."""
    return [
        [
            each.name,
            f"{each.rows:,}",
            each.compared.metric,
            figure(each.compared.champion.value),
            figure(each.compared.challenger.value),
            *difference(each.compared),
        ]
        for each in slices
    ]


def gate_cells(found: Evaluation) -> list[list[str]]:
    """A line for each gate."""
    return [[gate.gate, "passed" if gate.passed else "NOT passed", gate.said] for gate in found.gates]


def telling(slices: Sequence[Slice]) -> list[Slice]:
    """The slices that got worse most, and those that got better most."""
    there = sorted(
        (each for each in slices if each.compared.worse.value is not None),
        key=lambda each: each.compared.worse.value or 0.0,
        reverse=True,
    )
    return there if len(there) <= 2 * SHOWN else [*there[:SHOWN], *there[-SHOWN:]]


def measure(found: Measure) -> str:
    """A value with its interval."""
    if found.value is None:
        return "-"
    ends = "" if found.low is None else f" [{figure(found.low)}, {figure(found.high)}]"
    return figure(found.value) + ends


def difference(found: Compared) -> list[str]:
    """By how much the challenger is better or worse, and between what that lies."""
    worse = found.worse
    if worse.value is None or worse.low is None or worse.high is None:
        return ["not known", "-"]
    return [better(worse.value), f"{better(worse.high)} and {better(worse.low)}"]
