"""Estimates as a terminal and a page show them: what was said, what turned out, how often it held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from modelyard import pages
from modelyard.monitoring.estimate.estimating import Trust
from modelyard.monitoring.estimate.record import LEVEL, Entry, Said, coverage
from modelyard.monitoring.estimate.walking import DAY, State
from modelyard.monitoring.performance.text import spark, table

SHOWN = ("accuracy", "auc", "brier", "mae", "rmse")

_WIDTH, _HEIGHT, _LEFT, _FOOT = 560, 150, 56, 24
_TOLD = 12
"""Of reasons the newest are told."""


def chosen(state: State, metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics to show: those that are named, or the usual ones that there are."""
    there = {name for entry in state.record for name in (*entry.values, *entry.realized)}
    return tuple(name for name in (metrics or SHOWN) if name in there)


def text(state: State, metrics: Sequence[str] = ()) -> str:
    """The whole: how often intervals held, a line of blocks for each metric, the windows, and the reasons."""
    names = chosen(state, metrics)
    return "\n".join([*summary(state, names), "", *_lines(state, names), "", *_windows(state, names), *_reasons(state)])


def summary(state: State, names: Sequence[str]) -> Iterator[str]:
    """What holds for all of it."""
    if not state.record:
        yield "nothing estimated yet: no window has closed"
        return
    counts = [f"{sum(entry.trust is each for entry in state.record)} {each.value}" for each in Trust]
    yield f"{len(state.record)} windows of {_length(state.seconds)} of event time (UTC): {', '.join(counts)}"
    yield f"intervals are to cover the later truth in {LEVEL:.0%} of cases"
    for name in names:
        whole = coverage(state.record, name)
        if whole.known:
            parts = [(each, coverage(state.record, name, each)) for each in (Trust.TRUSTED, Trust.WIDENED)]
            said = ", ".join(f"{each.value} {kept.covered} of {kept.known}" for each, kept in parts if kept.known)
            yield f"  {name}: {whole.covered} of {whole.known} did ({said})"
    if state.forget:
        yield f"labels contradicted the estimates; what was known before {day(state.forget)} is not learned from"


def cell(said: Said | None, realized: float | None) -> str:
    """An estimate with its interval, and after an arrow what turned out; an exclamation mark where that lies outside.

    >>> cell(Said(0.8, 0.75, 0.85, 0.7), 0.7), cell(None, 0.7), cell(Said(12.0, 10.0, 15.0), None)
    ('0.800 [0.750, 0.850] → 0.700 !', '- → 0.700', '12.00 [10.00, 15.00]')
    """
    largest = max(abs(each) for each in ((said.value, said.low, said.high) if said else (realized or 0.0,)))
    form = ".3f" if largest < 10 else ".2f" if largest < 1000 else ",.0f"
    shown = "-" if said is None else f"{said.value:{form}} [{said.low:{form}}, {said.high:{form}}]"
    if realized is None:
        return shown
    return f"{shown} → {realized:{form}}{' !' if said is not None and said.covered is False else ''}"


def day(moment: int) -> str:
    """A moment as its day."""
    return str(np.datetime64(moment, "s").astype("datetime64[D]"))


def _length(seconds: int) -> str:
    days = seconds // DAY
    return "a day" if days == 1 else "a week" if days == 7 else f"{days} days"


def _lines(state: State, names: Sequence[str]) -> list[str]:
    lines = []
    for name in names:
        said = [entry.values[name].value if name in entry.values else None for entry in state.record]
        lines.append([name, "estimated", spark(said)])
        lines.append(["", "turned out", spark(entry.realized.get(name) for entry in state.record)])
    return table(["metric", "", "by window"], lines)


def _windows(state: State, names: Sequence[str]) -> list[str]:
    lines = [
        [
            day(entry.began),
            f"{entry.rows:,}",
            f"{entry.labelled / entry.rows:.0%}",
            entry.trust.value + (", withdrawn" if entry.withdrawn else ""),
            *(cell(entry.values.get(name), entry.realized.get(name)) for name in names),
        ]
        for entry in state.record
    ]
    return table(["from", "rows", "labels now", "", *(f"{name}, then truth" for name in names)], lines)


def _reasons(state: State) -> Iterator[str]:
    told = [entry for entry in state.record if entry.reason][-_TOLD:]
    if told:
        yield ""
    for entry in told:
        yield f"{day(entry.began)} {entry.trust.value}: {entry.reason}"


def section(state: State, metrics: Sequence[str] = ()) -> Iterator[str]:
    """Parts of HTML, for `modelyard.pages.page`."""
    names = chosen(state, metrics)
    for line in summary(state, names):
        yield f"<p>{escape(line.strip())}</p>"
    for name in names:
        yield plot(state, name)
    headings = ["from", "rows", "labels now", "", *names, "reason"]
    lines = [
        [
            day(entry.began),
            entry.rows,
            f"{entry.labelled / entry.rows:.0%}",
            entry.trust.value,
            *(cell(entry.values.get(name), entry.realized.get(name)) for name in names),
            entry.reason,
        ]
        for entry in state.record
    ]
    yield pages.rows(headings, lines)


def plot(state: State, metric: str) -> str:
    """One metric by window: the estimate with its interval as a bar, and what turned out as a dot."""
    entries = [entry for entry in state.record if metric in entry.values or metric in entry.realized]
    ends = [each for entry in entries for each in _ends(entry, metric)]
    if not ends:
        return f"<figure><figcaption>{escape(metric)}: nothing yet</figcaption></figure>"
    low, high = min(ends), max(ends)
    room = (high - low) * 0.05 or 1.0
    low, high = low - room, high + room

    def y(value: float) -> float:
        return _HEIGHT * (high - value) / (high - low)

    step, marks = _WIDTH / len(entries), []
    for at, entry in enumerate(entries):
        x = _LEFT + (at + 0.5) * step
        marks.append(_mark(entry, metric, x, y, min(step * 0.6, 10.0)))
    names = "".join(
        f'<text x="{_LEFT + (at + 0.5) * step:.1f}" y="{_HEIGHT + 16}" text-anchor="middle">{day(entry.began)}</text>'
        for at, entry in list(enumerate(entries))[:: max(1, -(-len(entries) // 6))]
    )
    names += "".join(
        f'<text x="{_LEFT - 6}" y="{y(value) + 3:.1f}" text-anchor="end">{value:.3g}</text>'
        for value in (low + room, (low + high) / 2, high - room)
    )
    said = f"{metric}: estimated with its interval (bars; pale: widened), and what turned out (dots)"
    return (
        f'<figure style="width:40rem"><svg viewBox="0 0 {_LEFT + _WIDTH} {_HEIGHT + _FOOT}" role="img" '
        f'aria-label="{escape(said, quote=True)}">{"".join(marks)}{names}</svg>'
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )


def _ends(entry: Entry, metric: str) -> list[float]:
    said, realized = entry.values.get(metric), entry.realized.get(metric)
    return [*([] if said is None else [said.low, said.high]), *([] if realized is None else [realized])]


def _mark(entry: Entry, metric: str, x: float, y: object, width: float) -> str:
    assert callable(y)  # noqa: S101
    said, realized = entry.values.get(metric), entry.realized.get(metric)
    told = escape(f"{day(entry.began)}: {cell(said, realized)}, {entry.trust.value}")
    drawn = ""
    if said is not None:
        pale = ".15" if entry.trust is Trust.WIDENED else ".35"
        drawn += (
            f'<rect x="{x - width / 2:.1f}" y="{y(said.high):.1f}" width="{width:.1f}" class="after" opacity="{pale}" '
            f'height="{max(1.0, y(said.low) - y(said.high)):.1f}"/>'
            f'<path d="M{x - width / 2:.1f} {y(said.value):.1f}h{width:.1f}" stroke="var(--after)" stroke-width="1.5"/>'
        )
    if realized is not None:
        drawn += f'<circle cx="{x:.1f}" cy="{y(realized):.1f}" r="2.2" fill="currentColor"/>'
    return f"<g><title>{told}</title>{drawn}</g>"
