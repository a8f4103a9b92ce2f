"""Performance as a part of a page: a plot of each metric with its intervals, and the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from modelyard import pages
from modelyard.monitoring.performance.history import History, Point
from modelyard.monitoring.performance.text import began, better, shown, summary, value

_WIDTH, _HEIGHT, _LEFT, _FOOT = 560, 150, 56, 24
_LINES = 12
"""Slices that have a line of their own in the table."""


def section(history: History, metrics: Sequence[str] = ()) -> Iterator[str]:
    """Parts of HTML, for `modelyard.pages.page`."""
    names = tuple(metrics) or shown(history)
    for line in summary(history):
        yield f"<p>{escape(line)}</p>"
    for name in history.slices[:_LINES]:
        for metric in names[:1] if history.column else names:
            yield plot(history, metric, name)
    headings = [history.column or "from", "rows", "labelled", *names]
    points = history.whole if history.column else history.points
    yield pages.rows(headings, [_cells(history, point, names) for point in points])


def plot(history: History, metric: str, slice_: str = "", promised: float | None = None) -> str:
    """One metric by window: a line, its interval as a band, young windows hollow, and dashed what was promised."""
    points = [point for point in history.of(slice_) if point.measures[metric].value is not None]
    said = f"{metric}{f', {history.column} {slice_}' if slice_ else ''} ({better(metric)})"
    if not points:
        return f"<figure><figcaption>{escape(said)}: no labels</figcaption></figure>"
    reach = _reach([*_ends(points, metric), *([] if promised is None else [promised])])
    step = _WIDTH / len(points)
    places = [_LEFT + (at + 0.5) * step for at in range(len(points))]
    drawn = [_band(points, places, metric, reach), _line(points, places, metric, reach)]
    drawn += [_dot(point, at, metric, reach, history) for point, at in zip(points, places, strict=True)]
    if promised is not None:
        level = _y(promised, reach)
        drawn.append(f'<path d="M{_LEFT} {level:.1f}H{_LEFT + _WIDTH}" stroke="currentColor" stroke-dasharray="4 3"/>')
    return (
        f'<figure style="width:40rem"><svg viewBox="0 0 {_LEFT + _WIDTH} {_HEIGHT + _FOOT}" role="img" '
        f'aria-label="{escape(said, quote=True)}">{"".join(drawn)}{_axes(points, places, reach, history)}</svg>'
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )


def _cells(history: History, point: Point, names: Sequence[str]) -> list[object]:
    first = point.slice if history.column else began(point.began, history.by)
    note = (
        " (labels still coming)" if point.young else f" (changed: {point.later:,} labels later)" if point.later else ""
    )
    return [first + note, point.rows, f"{point.coverage:.1%}", *(value(point.measures[name]) for name in names)]


def _ends(points: Sequence[Point], metric: str) -> list[float]:
    measures = [point.measures[metric] for point in points]
    return [each for one in measures for each in (one.value, one.low, one.high) if each is not None]


def _reach(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def _y(at: float, reach: tuple[float, float]) -> float:
    return _HEIGHT * (reach[1] - at) / (reach[1] - reach[0])


def _band(points: Sequence[Point], places: Sequence[float], metric: str, reach: tuple[float, float]) -> str:
    held = [(x, one.measures[metric]) for point, x in zip(points, places, strict=True) for one in (point,)]
    upper = [(x, measure.high) for x, measure in held if measure.high is not None]
    lower = [(x, measure.low) for x, measure in held if measure.low is not None]
    path = " ".join(f"{x:.1f},{_y(end, reach):.1f}" for x, end in [*upper, *reversed(lower)])
    return f'<polygon points="{path}" class="after" opacity=".2"/>'


def _line(points: Sequence[Point], places: Sequence[float], metric: str, reach: tuple[float, float]) -> str:
    path = " ".join(
        f"{x:.1f},{_y(point.measures[metric].value or 0.0, reach):.1f}" for point, x in zip(points, places, strict=True)
    )
    return f'<polyline points="{path}" fill="none" stroke="var(--after)" stroke-width="1.5"/>'


def _dot(point: Point, x: float, metric: str, reach: tuple[float, float], history: History) -> str:
    measure = point.measures[metric]
    fill = "none" if point.young else "var(--after)"
    said = f"{began(point.began, history.by)}: {value(measure)}, {point.labelled:,} of {point.rows:,} rows labelled"
    return (
        f'<circle cx="{x:.1f}" cy="{_y(measure.value or 0.0, reach):.1f}" r="2.5" fill="{fill}" stroke="var(--after)">'
        f"<title>{escape(said)}</title></circle>"
    )


def _axes(points: Sequence[Point], places: Sequence[float], reach: tuple[float, float], history: History) -> str:
    step = max(1, -(-len(points) // 6))
    below = "".join(
        f'<text x="{x:.1f}" y="{_HEIGHT + 16}" text-anchor="middle">{began(point.began, history.by)}</text>'
        for point, x in list(zip(points, places, strict=True))[::step]
    )
    marks = [reach[0] + (reach[1] - reach[0]) * part for part in (0.05, 0.5, 0.95)]
    beside = "".join(
        f'<text x="{_LEFT - 6}" y="{_y(at, reach) + 3:.1f}" text-anchor="end">{at:.3g}</text>' for at in marks
    )
    return below + beside
