"""A retraining as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from modelyard.home import Home
from modelyard.pages import page, rows
from modelyard.retraining import text
from modelyard.retraining.report import Compared, Evaluation, Report, Slice
from modelyard.retraining.watched import folder

_STYLE = """
.accepted { color: #2b8a3e } .declined, .failed, .stopped, .lost { color: #c92a2a } .state { font-weight: 600 }
.zero { stroke: var(--line); stroke-width: 1.5 } .whisker { stroke: var(--before); stroke-width: 2 }
.whisker.worse { stroke: #c92a2a } .whisker.better { stroke: #2b8a3e } .dot { fill: currentColor }
svg.forest { max-width: 46rem } svg.forest text { font-size: 11px }
"""
_LINE, _NAMES, _WIDE = 18, 260, 700


def write_page(home: Home, report: Report) -> Path:
    """Write the page of a report into the home, and say where it is."""
    place = folder(home)
    place.mkdir(parents=True, exist_ok=True)
    file = place_of(home, report)
    file.write_text(html(report), "utf-8")
    return file


def place_of(home: Home, report: Report) -> Path:
    """Where the page of a report is."""
    return folder(home) / f"{report.id}.html"


def html(report: Report) -> str:
    """The whole page."""
    return page(f"Retraining {report.id} of {report.deployment}", _body(report), _STYLE)


def _body(report: Report) -> Iterator[str]:
    yield f'<p class="state {report.state}">{escape(report.state)}: {escape(report.reason)}</p>'
    yield "".join(f"<p>{escape(line)}</p>" for line in text.lines(report)[1:] if not line.startswith("what came"))
    if report.command:
        yield f"<p>command <code>{escape(' '.join(report.command))}</code></p>"
    if report.evaluation is not None:
        yield from _evaluation(report.evaluation)


def _evaluation(found: Evaluation) -> Iterator[str]:
    yield f"<h2>Gates</h2>{rows(text.GATES, text.gate_cells(found))}"
    yield f"<h2>All rows</h2>{rows(text.METRICS, text.metric_cells(found))}"
    yield f"<p>Differences lie between the ends with {found.certainty:.0%}, of rows, hours or days taken as "
    yield "independent, whichever is widest.</p>"
    if found.slices:
        yield f"<h2>Slices</h2><p>The intervals hold for all {len(found.slices)} together.</p>"
        yield _forest(text.telling(found.slices))
        yield rows(text.SLICES, text.slice_cells(found.slices))


def _forest(slices: Sequence[Slice]) -> str:
    """Differences with their intervals, a line each; to the right the challenger is worse."""
    ends = [end for each in slices for end in (each.compared.worse.low, each.compared.worse.high) if end is not None]
    reach = max((abs(end) for end in ends), default=0.0) or 1.0
    height = _LINE * (len(slices) + 1)
    zero = _place(0.0, reach)
    parts = [f'<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="{height - _LINE}"/>']
    parts += [_whisker(each, at, reach) for at, each in enumerate(slices)]
    parts += [
        f'<text x="{_NAMES + 4}" y="{height - 4}">better</text>',
        f'<text x="{_WIDE}" y="{height - 4}" text-anchor="end">worse</text>',
    ]
    return (
        f'<svg class="forest" viewBox="0 0 {_WIDE} {height}" role="img" '
        f'aria-label="difference by slice">{"".join(parts)}</svg>'
    )


def _whisker(each: Slice, at: int, reach: float) -> str:
    worse, y = each.compared.worse, _LINE * at + _LINE / 2
    name = each.name if len(each.name) <= 40 else each.name[:39] + "…"
    label = f'<text x="{_NAMES - 6}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
    if worse.value is None or worse.low is None or worse.high is None:
        return label
    title = f"<title>{escape(', '.join([each.name, *text.difference(each.compared)]))}</title>"
    return (
        f"<g>{title}{label}"
        f'<line class="whisker {_side(each.compared)}" x1="{_place(worse.low, reach)}" '
        f'x2="{_place(worse.high, reach)}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot" cx="{_place(worse.value, reach)}" cy="{y}" r="3"/></g>'
    )


def _side(found: Compared) -> str:
    if found.worse.low is not None and found.worse.low > 0:
        return "worse"
    return "better" if found.worse.high is not None and found.worse.high < 0 else ""


def _place(value: float, reach: float) -> float:
    middle = (_NAMES + _WIDE) / 2
    return round(middle + value / reach * (_WIDE - _NAMES) / 2, 1)
