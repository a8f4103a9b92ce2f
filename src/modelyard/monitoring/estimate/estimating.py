"""An estimate of a window without labels: values, intervals, and whether they can be trusted.

What is added up in an interval's standard error: chance in the window's own labels; the error of what was learned, with
whole blocks of time as units; how far earlier blocks were missed beyond chance (`drifting`). Beyond that the ends are
moved by what rows outside of all that was labelled could do at worst, and by a change of base rate as far as it is
possible (`shifts`).

The value is what was learned, averaged over the window's rows, and corrected by the weighed errors on labelled rows
that look like the window's (Robins, Rotnitzky and Zhao 1994), as far as these are beyond their own error (James and
Stein 1961). Białek, Kivimäki and others 2024 ("Estimating Model Performance Under Covariate Shift Without Labels",
arXiv 2401.08348) weigh likewise; Kivimäki and others 2025 (arXiv 2505.05295) have chance in the labels alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.estimate.cells import outside, outside_by_column
from modelyard.monitoring.estimate.drifting import drift_variance, freedom, quantile
from modelyard.monitoring.estimate.learning import Labelled
from modelyard.monitoring.estimate.metrics import BINARY
from modelyard.monitoring.estimate.rows import Rows
from modelyard.monitoring.estimate.shifts import SURE, credit, shifted
from modelyard.monitoring.estimate.weighing import weighed

TAIL = 0.1
LEAST_ROWS = 300
LEAST_BLOCKS = 8
LEAST_EACH = 20
"""Labelled rows of either class."""
LEAST_WORTH = 25.0
MOST_OUTSIDE = 0.2
SOME_OUTSIDE = 0.02
MOST_AHEAD = 1.0
"""Estimates reach as many blocks ahead as there are labelled ones, times this."""
WIDER = 1.5
"""Widened is what is this much wider than the usual interval of a window that looks like the labelled rows."""


class Trust(StrEnum):
    """Whether an interval can be believed."""

    TRUSTED = "trusted"
    WIDENED = "widened"
    """The interval has been made wider for a reason that is told."""
    REFUSED = "refused"
    """There is no interval; the reason is told."""


class Value(msgspec.Struct, frozen=True):
    """An estimated metric. `error` is its standard error; the interval may reach further, see the module."""

    value: float
    low: float
    high: float
    error: float


class Estimate(msgspec.Struct, frozen=True):
    """What is expected of a window's labels. `values` is empty where it is refused.

    `worth` is how many of the labelled rows say something about this window, `outside` the share of its rows that lie
    outside of all that was labelled, `columns` where they do. `confusion` has the expected shares of decisions and
    truths: true and decided so, not true and decided so, true and not decided so, neither.
    """

    trust: Trust
    reason: str
    rows: int
    values: Mapping[str, Value] = {}
    labelled: int = 0
    blocks: int = 0
    worth: float = 0.0
    outside: float = 0.0
    columns: Mapping[str, float] = {}
    confusion: tuple[float, float, float, float] | None = None


def too_little(rows: Rows, blocks: int) -> str:
    """Why there are too few labelled rows to learn from; empty if there are enough."""
    if len(rows) < LEAST_ROWS:
        return f"{len(rows)} labelled rows so far; {LEAST_ROWS} are needed"
    if blocks < LEAST_BLOCKS:
        return f"labelled rows of {blocks} blocks of time so far; {LEAST_BLOCKS} are needed to see how steady they are"
    if rows.task == "binary" and rows.truth is not None:
        least = int(min(rows.truth.sum(), len(rows) - rows.truth.sum()))
        if least < LEAST_EACH:
            return f"{least} labelled rows of one of the classes so far; {LEAST_EACH} are needed"
    return ""


def estimate(
    learned: Labelled, window: Rows, *, ahead: int = 1, length: int = 1, tails: Mapping[str, float] | None = None
) -> Estimate:
    """Estimate a window that begins `ahead` blocks after the last labelled one and is `length` blocks long.

    The later truth lies outside of a metric's interval with probability `tails` at most (0.1 where none is given); see
    the module for what that supposes.
    """
    blocks = int(learned.blocks.max()) + 1
    codes, made = learned.seen(window)
    out = outside(codes)
    weights = weighed(learned.design[:, 1:], made[~out][:, 1:])
    far = max(0.0, float(out.mean()) - learned.alone)
    told = Estimate(
        Trust.REFUSED,
        _refusal(far, outside_by_column(learned.cells, codes), weights.worth, ahead, blocks),
        len(window),
        labelled=len(learned.rows),
        blocks=blocks,
        worth=weights.worth,
        outside=far,
        columns=outside_by_column(learned.cells, codes),
    )
    if told.reason:
        return told
    looked, other, confusion = _looked(learned, window, made)
    values, wider = {}, 1.0
    for name, each in looked.items():
        values[name], times = _value(
            name, each, learned, weights.weights, len(window), out, ahead, length, (tails or {}).get(name, TAIL) / 2
        )
        wider = max(wider, times) if name not in ("precision", "recall", "f1") else wider
    reasons = [f"{far:.0%} of the rows lie outside of what was labelled"] if far > SOME_OUTSIDE else []
    reasons += ["the inputs moved as a change of base rate would move them"] if other > 0 else []
    reasons += [f"labels are {ahead} blocks old"] if not reasons and wider > WIDER and ahead > 2 else []
    reasons += ["few labelled rows look like these"] if not reasons and wider > WIDER else []
    trust = Trust.WIDENED if wider > WIDER else Trust.TRUSTED
    reason = "; ".join(reasons) if trust is Trust.WIDENED else ""
    return msgspec.structs.replace(told, trust=trust, reason=reason, values=values, confusion=confusion)


def _refusal(far: float, columns: Mapping[str, float], worth: float, ahead: int, blocks: int) -> str:
    if far > MOST_OUTSIDE:
        most = ", ".join(f"{name} {share:.0%}" for name, share in list(columns.items())[:3])
        return f"{far:.0%} of the rows lie outside of what was labelled ({most})"
    if worth < LEAST_WORTH:
        return f"the rows are unlike those that were labelled: these are worth {worth:.0f} of their kind"
    if ahead > MOST_AHEAD * blocks:
        return (
            f"the newest labels are {ahead} blocks old, and there are {blocks}: how it drifts over so long is not known"
        )
    return ""


class _Looked(msgspec.Struct, frozen=True):
    """A metric before errors: its value, the errors of labelled rows, and what a row may gain or lose at worst.

    `shifted` is how much the value would change with the base rate.
    """

    value: float
    errors: Array
    gain: Array
    loss: Array
    shifted: float = 0.0


def _looked(
    learned: Labelled, window: Rows, made: Array
) -> tuple[dict[str, _Looked], float, tuple[float, float, float, float] | None]:
    if window.task != "binary":
        return {name: _losses(learned, name, window, made) for name in learned.fits}, 0.0, None
    rows, truth = learned.rows, learned.rows.labels
    p = learned.expected("p", window, made)
    rate = float(truth.mean())
    other, variance = shifted(p, rate)
    change = float(np.mean(other - p))
    part = credit(learned.moves) if abs(change) > SURE * variance**0.5 else 0.0
    found = {}
    for name, metric in BINARY.items():
        value, slope = metric(window.score, window.decided, p)
        if not np.isfinite(value):
            continue
        errors = (truth - learned.held["p"]) * slope(rows.score, rows.decided)
        here = slope(window.score, window.decided)
        ends = np.stack([(1 - p) * here, -p * here])
        moved_to = metric(window.score, window.decided, other)[0]
        found[name] = _Looked(value, errors, ends.max(axis=0), -ends.min(axis=0), part * (moved_to - value))
    yes = window.decided > 0
    first, second, third, fourth = (float(np.mean(each)) for each in (yes * p, yes * (1 - p), ~yes * p, ~yes * (1 - p)))
    return found, part, (first, second, third, fourth)


def _losses(learned: Labelled, name: str, window: Rows, made: Array) -> _Looked:
    losses, held = learned.rows.losses[name], learned.held[name]
    expected = learned.expected(name, window, made)
    least, most = float(losses.min()), float(losses.max())
    expected = np.clip(expected, least, most)
    errors, gain, loss = losses - held, most - expected, expected - least
    value = float(expected.mean())
    if name == "rmse":
        root = max(value, 1e-300) ** 0.5
        return _Looked(root, errors / (2 * root), gain / (2 * root), loss / (2 * root))
    return _Looked(value, errors, gain, loss)


def _value(
    name: str,
    looked: _Looked,
    learned: Labelled,
    weights: Array,
    number: int,
    out: Array,
    ahead: int,
    length: int,
    tail: float,
) -> tuple[Value, float]:
    """The estimate of one metric, and how many times wider it is than usual."""
    weighed_errors = weights * looked.errors
    chance = float(weighed_errors @ looked.errors) / number
    by_block = np.bincount(learned.blocks, weighed_errors)
    learning = float(by_block @ by_block)
    drawn = float(weighed_errors.sum())
    correction = drawn * max(0.0, 1.0 - learning / drawn**2) if drawn else 0.0
    value = looked.value + correction
    # Where two ways to the same number disagree, neither is sure by more than that.
    known = chance + learning + correction**2
    history, blocks = learned.history[name], len(by_block)
    reach, error = min(
        (quantile(tail, freedom(blocks, each)) * found, found)
        for each in {1, length}
        for found in [(known + drift_variance(history, ahead, each)) ** 0.5]
    )
    up = reach + float(looked.gain[out].sum()) / number + max(0.0, looked.shifted)
    down = reach + float(looked.loss[out].sum()) / number + max(0.0, -looked.shifted)
    usual = float(np.mean(looked.errors**2)) * (1 / number + 1 / len(looked.errors))
    usual += drift_variance(history, 1, length)
    times = (up + down) * error / (2 * reach * usual**0.5) if usual > 0 else 1.0
    low, high = _bounded(name, value - down, value + up)
    return Value(min(max(value, low), high), low, high, error), times


_SHARES = ("accuracy", "auc", "precision", "recall", "f1", "base_rate")


def _bounded(name: str, low: float, high: float) -> tuple[float, float]:
    if name in _SHARES:
        return min(max(low, 0.0), 1.0), max(min(high, 1.0), 0.0)
    return (low if name == "bias" else max(low, 0.0)), high
