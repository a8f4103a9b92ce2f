"""Performance as a terminal shows it: lines of blocks and a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from modelyard.monitoring.performance.groups import By
from modelyard.monitoring.performance.history import History, Point
from modelyard.monitoring.performance.intervals import Measure
from modelyard.monitoring.performance.metrics import METRICS
from modelyard.monitoring.performance.worst import Found

SHOWN = ("auc", "accuracy", "brier", "log_loss", "mae", "rmse", "bias")
"""What is shown, of those that there are, unless metrics are named; the first is drawn."""

_NOTES = 10
"""So many slices that changed are told at most."""

_BLOCKS = "▁▂▃▄▅▆▇█"


def spark(values: Iterable[float | None]) -> str:
    """A line of blocks from the smallest to the largest value; a gap where there is none.

    >>> spark([1.0, 2.0, None, 3.0])
    '▁▅ █'
    """
    found = list(values)
    there = [each for each in found if each is not None]
    low, wide = min(there, default=0.0), max(there, default=0.0) - min(there, default=0.0)
    step = (len(_BLOCKS) - 1) / wide if wide > 0 else 0.0
    return "".join(" " if each is None else _BLOCKS[int((each - low) * step + 0.5)] for each in found)


def shown(history: History) -> tuple[str, ...]:
    """The metrics to show of all that were measured."""
    return tuple(name for name in SHOWN if name in history.metrics) or history.metrics


def text(history: History, metrics: Sequence[str] = ()) -> str:
    """The whole: a line for each slice and for each window, and what has to be known about some of them."""
    names = tuple(metrics) or shown(history)
    return "\n".join(
        [*summary(history), "", *_sparks(history, names), "", *_windows(history, names), *_notes(history, names)]
    )


def worst_text(found: Found) -> str:
    """The slices in which a model does worst."""
    head = f"worst slices by {found.metric}, of {found.tried:,} looked at on one half of {found.rows:,} labelled rows"
    if not found.slices:
        return f"{head}: none that the other half confirms"
    names = [name for name in SHOWN if name in found.slices[0].measures]
    lines = [
        [
            each.said,
            f"{each.rows:,}",
            f"{each.share:.1%}",
            value(each.worse),
            *(value(each.measures[name]) for name in names),
        ]
        for each in found.slices
    ]
    told = f"{len(found.slices)} of {found.judged} confirmed on the other half, whose figures these are"
    return "\n".join([head, told, "", *table(["slice", "rows", "of all", "loss more by", *names], lines)])


def summary(history: History) -> Iterator[str]:
    """What holds for all of it."""
    rows = sum(point.rows for point in history.whole)
    labelled = sum(point.labelled for point in history.whole)
    if not rows:
        yield "no answered rows in this time"
        return
    share = f"{labelled:,} ({labelled / rows:.1%})"
    yield f"{rows:,} answered rows, {share} with a label; by {history.by} of event time (UTC)"
    complete = f"a {_unit(history.by)} counts as complete {_age(history.age)} after its end"
    yield f"intervals cover in {history.level:.0%} of cases; {complete}"
    if history.strange:
        some = ", ".join(f"{name!r} ({many:,})" for name, many in list(history.strange.items())[:5])
        yield f"labels that are no class of the model, and count as not known: {some}"


def value(measure: Measure, *, interval: bool = True) -> str:
    """A value with its interval, as a table shows it.

    >>> value(Measure(0.7, 0.68, 0.72, 1000)), value(Measure()), value(Measure(12.3456, 11.9, 13.1, 90))
    ('0.700 [0.680, 0.720]', '-', '12.35 [11.90, 13.10]')
    """
    if measure.value is None:
        return "-"
    largest = max(abs(each) for each in (measure.value, measure.low or 0.0, measure.high or 0.0))
    form = ".3f" if largest < 10 else ".2f" if largest < 1000 else ",.0f"
    if not interval or measure.low is None or measure.high is None:
        return f"{measure.value:{form}}"
    return f"{measure.value:{form}} [{measure.low:{form}}, {measure.high:{form}}]"


def began(moment: datetime, by: By) -> str:
    """When a window began, as far as it matters.

    >>> began(datetime(2013, 3, 1), By.MONTH), began(datetime(2013, 3, 4), By.WEEK)
    ('2013-03', '2013-03-04')
    """
    return f"{moment:{_FORMS[by]}}"


_FORMS = {By.MONTH: "%Y-%m", By.HOUR: "%Y-%m-%d %H:00"} | dict.fromkeys((By.DAY, By.WEEK, By.WHOLE), "%Y-%m-%d")


def _sparks(history: History, names: Sequence[str]) -> list[str]:
    """One line for each metric, or for each slice in the first metric."""
    lines = []
    for whole in history.whole:
        for name in names[:1] if history.column else names:
            values = [point.measures[name].value for point in history.of(whole.slice)]
            there = [each for each in values if each is not None]
            ends = f"{min(there):.3f} to {max(there):.3f}" if there else ""
            slice_ = [whole.slice, f"{whole.rows:,}", f"{whole.coverage:.1%}"] if history.column else []
            lines.append([*slice_, name, value(whole.measures[name]), spark(values), ends])
    head = [history.column, "rows", "labelled"] if history.column else []
    return table([*head, "metric", "all together", _by(history), "range"], lines)


def _windows(history: History, names: Sequence[str]) -> list[str]:
    if history.column:
        return []
    lines = [
        [
            began(point.began, history.by) + _marks(point),
            f"{point.rows:,}",
            f"{point.coverage:.1%}",
            *(value(point.measures[name]) for name in names),
        ]
        for point in history.points
    ]
    return table([_unit(history.by), "rows", "labelled", *names], lines)


def _marks(point: Point) -> str:
    return (" …" if point.young else "") + (" *" if point.changed else "")


def _notes(history: History, names: Sequence[str]) -> Iterator[str]:
    """What young and changed windows are to be read with. Of slices those that changed, and that others are young."""
    if history.column:
        yield from (f"… {each}: labels are still coming" for each in _young(history))
        found = sorted((point for point in history.points if point.changed), key=lambda each: -each.later)[:_NOTES]
    else:
        found = [point for point in history.points if point.young or point.changed]
    for point in found:
        what = began(point.began, history.by) + (f", {history.column} {point.slice}" if point.slice else "")
        if point.young and not history.column:
            alike = _named(point.alike, names)
            yield f"… {what}: labels are still coming" + (f"; older ones showed {alike} at this age" if alike else "")
        if point.changed:
            labels = "label" if point.later == 1 else "labels"
            before = _named(point.first, names)
            yield f"* {what}: {point.later:,} {labels} came or changed later; before, it showed {before}"


def _young(history: History) -> list[str]:
    """The windows in which any slice is young."""
    return list(dict.fromkeys(began(point.began, history.by) for point in history.points if point.young))


def _named(measures: Mapping[str, Measure], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {value(measures[name], interval=False)}" for name in names if name in measures)


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side.

    >>> table(["week", "auc"], [["2013-03-04", "0.7"]])
    ['week        auc', '2013-03-04  0.7']
    """
    whole = [headings, *lines]
    widths = [max(len(line[at]) for line in whole) for at in range(len(headings))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in whole]


def _unit(by: By) -> str:
    return "window" if by is By.WHOLE else by.value


def _by(history: History) -> str:
    return f"by {history.by}"


def _age(seconds: float) -> str:
    """So much time in words.

    >>> _age(21600.0), _age(0.0), _age(172800.0)
    ('6 hours', 'right', '2 days')
    """
    if not seconds:
        return "right"
    unit, each = next(
        (pair for pair in (("day", 86_400), ("hour", 3600), ("minute", 60)) if seconds >= pair[1]), ("second", 1)
    )
    many = seconds / each
    return f"{many:.3g} {unit}{'' if many == 1 else 's'}"


def better(name: str) -> str:
    """Which way a metric should go, in words."""
    return {"higher": "higher is better", "lower": "lower is better", "zero": "best near 0"}[METRICS[name].better]
