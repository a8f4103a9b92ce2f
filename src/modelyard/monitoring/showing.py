"""A deployment at a glance, as text for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from modelyard import pages
from modelyard.monitoring.comparison import ColumnComparison
from modelyard.monitoring.overview import Overview
from modelyard.monitoring.performance.text import spark
from modelyard.monitoring.report import pair_plots, paired
from modelyard.monitoring.verdicts import Verdict

_MOST = 30
"""So many columns at most are shown in a terminal."""

HEADINGS = ("column", "verdict", "distance", "PSI", "missing", "over time", "what")


def text(found: Overview) -> str:
    """The whole, for a terminal."""
    lines = [*summary(found), "", *alert_lines(found)]
    shown = columns(found)
    if shown:
        lines += ["", *_table([HEADINGS, *shown[:_MOST]])]
        if len(shown) > _MOST:
            lines.append(f"and {len(shown) - _MOST} more; --json has all, and so has `modelyard monitor report`")
    return "\n".join(lines)


def summary(found: Overview) -> Iterator[str]:
    """What holds for all of it."""
    yield (
        f"{found.deployment}: {found.version}, {found.rows:,} answered rows in {found.windows:,} windows, "
        f"{found.began:%Y-%m-%d %H:%M} to {found.ended:%Y-%m-%d %H:%M} of event time (UTC)"
    )
    middle, slow = found.calls.latency_quantile(0.5), found.calls.latency_quantile(0.99)
    latency = "" if middle is None or slow is None else f"; half within {_time(middle)}, 99% within {_time(slow)}"
    outcomes = ", ".join(f"{many:,} {outcome}" for outcome, many in found.calls.outcomes.items())
    yield f"calls: {outcomes or 'none'}{latency}"
    yield f"rows:  {spark([float(step.rows) for step in found.steps])}"
    if any(step.unanswered for step in found.steps):
        yield f"not answered: {spark([float(step.unanswered) for step in found.steps])}"
        for reason, many in sorted(found.calls.refusals.items(), key=lambda item: -item[1])[:3]:
            yield f"  {many:,} times {reason}"
    if found.compared is not None:
        verdicts = [each.verdict for each in found.compared.columns]
        told = ", ".join(f"{verdicts.count(each)} {each}" for each in Verdict if each in verdicts)
        yield f"columns beside the reference of {found.compared.reference_rows:,} rows: {told}"
        yield from paired(found.compared.pairs)


def columns(found: Overview) -> list[Sequence[str]]:
    """A line for each column, those that moved first."""
    return [] if found.compared is None else [_line(found, column) for column in found.compared.columns]


def _line(found: Overview, column: ColumnComparison) -> Sequence[str]:
    effect, name = column.effect, column.column
    over = spark([step.distance.get(name) for step in found.steps])
    if effect is None:
        return name, column.verdict.value, "", "", "", over, column.said
    missing = f"{column.missing[1]:.1%}" if any(column.missing) else ""
    return name, column.verdict.value, f"{effect.distance:.1%}", f"{effect.psi:.3f}", missing, over, column.said


def alert_lines(found: Overview) -> Iterator[str]:
    """Alerts that go on, or that there is none; and how far that holds."""
    if found.waiting is not None:
        yield (
            f"looked at up to {found.waiting.reached:%Y-%m-%d %H:%M}, and calls have come up to "
            f"{found.waiting.come:%Y-%m-%d %H:%M}: no monitor runs, or it is behind (`modelyard up` keeps one running, "
            "`modelyard monitor run --once` looks now)"
        )
    if not found.alerts:
        yield f"no alert; the budget is {found.settings.false_alarms}"
    for alert in found.alerts:
        loss = f"; {alert.loss}" if alert.loss else ""
        yield f"alert {alert.id} {alert.state}, since {alert.since:%Y-%m-%d %H:%M}{loss}"
        yield from (f"  {part.text}" for part in alert.parts[:5])
        if len(alert.parts) > 5:
            yield f"  and {len(alert.parts) - 5} more"


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def page(found: Overview, sections: Sequence[str] = ()) -> str:
    """A page that needs nothing beside itself; `sections` are parts of HTML to be shown before the columns."""
    return pages.page(f"{found.deployment}: monitoring", [*_body(found, sections)], _STYLE)


def _body(found: Overview, sections: Sequence[str]) -> Iterator[str]:
    yield "".join(f"<p>{escape(line)}</p>" for line in summary(found) if not line.startswith(("rows:", "not answ")))
    yield "<h2>Alerts</h2>"
    yield "".join(f"<p>{escape(line)}</p>" for line in alert_lines(found))
    yield "<h2>Traffic</h2>"
    yield _over_time("answered rows", [float(step.rows) for step in found.steps], found, ",.0f")
    yield _over_time("calls not answered", [float(step.unanswered) for step in found.steps], found, ",.0f")
    yield from sections
    if found.compared is None:
        return
    yield "<h2>Columns</h2>"
    shown = [(*line[:5], line[6]) for line in columns(found)]
    yield pages.rows([each for each in HEADINGS if each != "over time"], shown)
    yield "<p class='key'><i class='before'></i>reference<i class='after'></i>live</p>"
    for column in found.compared.columns:
        if column.bins:
            parts = [(each.label, each.reference, each.current) for each in column.bins]
            said = f"{column.column}: {column.verdict.value}{', ' if column.said else ''}{column.said}"
            yield "<div class='pair'>"
            yield pages.plot(said, parts, strong=column.verdict is Verdict.MOVED)
            distances = [step.distance.get(column.column) for step in found.steps]
            yield _over_time(f"{column.column}: distance from the reference", distances, found, ".1%")
            yield "</div>"
    yield from pair_plots(found.compared.pairs)


_WIDE, _HIGH = 448, 120
_STYLE = """
polyline { fill: none; stroke: var(--after); stroke-width: 2 } .pair { break-inside: avoid }
circle { fill: var(--after) } line { stroke: var(--line) }
"""


def _over_time(said: str, values: Sequence[float | None], found: Overview, form: str) -> str:
    """A line over the stretch, from zero; gaps where there is nothing."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    step = _WIDE / max(len(values) - 1, 1)
    points = [(at * step, _HIGH * (1 - value / top), value, at) for at, value in enumerate(values) if value is not None]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>'
        f"{found.steps[at].began:%Y-%m-%d %H:%M}: {value:{form}}</title></circle>"
        for x, y, value, at in points
    )
    ends = f"{found.began:%Y-%m-%d}", f"{found.ended:%Y-%m-%d}"
    return (
        f'<figure><svg viewBox="-60 -12 {_WIDE + 72} {_HIGH + 34}" role="img" aria-label="{escape(said, quote=True)}">'
        f'<line x1="0" y1="{_HIGH}" x2="{_WIDE}" y2="{_HIGH}"/><polyline points="{line}"/>{dots}'
        f'<text x="-6" y="6" text-anchor="end">{top:{form}}</text><text x="-6" y="{_HIGH}" text-anchor="end">0</text>'
        f'<text x="0" y="{_HIGH + 16}">{ends[0]}</text><text x="{_WIDE}" y="{_HIGH + 16}" text-anchor="end">{ends[1]}'
        f"</text></svg><figcaption>{escape(said)}</figcaption></figure>"
    )
