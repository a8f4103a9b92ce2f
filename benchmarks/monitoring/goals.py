"""What each table is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.monitoring.cost import OFF, ON, Cost, Kept
from benchmarks.monitoring.estimates import Held
from benchmarks.monitoring.ours import OURS
from benchmarks.monitoring.power import ALL, Power
from benchmarks.monitoring.report import Section
from benchmarks.monitoring.shipping import Shipped
from benchmarks.monitoring.speed import EXACT
from benchmarks.monitoring.speed import Cost as Check
from benchmarks.serving.report import Goal

STATED = 0.9
"""In such a part of the windows intervals are to hold the truth."""


def silence(sections: Sequence[Section]) -> Iterator[Goal]:
    """No more alarms than the budget states, at every size of windows."""
    for section, what in zip(sections, ("alarms", "alarms of pairs"), strict=True):
        for row in section.rows:
            yield Goal("silence", f"{what}, windows of {row.rows:,}", row.alarms, "alarms", row.allowed, at_least=False)


def rhythm(sections: Sequence[Section]) -> Iterator[Goal]:
    """The same with a rhythm, once two weeks are stored."""
    for row in sections[0].rows:
        yield Goal("rhythm", f"alarms, windows of {row.rows:,}", row.alarms, "alarms", row.allowed, at_least=False)


def speed(sections: Sequence[Section]) -> Iterator[Goal]:
    """A tenth of each peer's processor time, less than scipy's, and little memory."""
    rows: dict[str, Check] = {row.name: row for row in sections[0].rows if not row.failed}
    mine = rows.pop(OURS)
    for name, row in rows.items():
        limit = 1.0 if name == EXACT else 10.0
        yield Goal("speed", f"times less processor time than {name}", row.seconds, "s", limit, beside=mine.seconds)
    yield Goal("speed", "extra memory", mine.megabytes, "MB", 50.0, at_least=False)


def power(sections: Sequence[Section]) -> Iterator[Goal]:
    """Soon, in the median of the sources."""
    rows: list[Power] = list(sections[0].rows)
    for row in (row for row in rows if row.tool == OURS):
        what = "median of sources" if row.source == ALL else row.source
        yield Goal("power", f"rows until an alarm, {what}", row.rows, "rows", 2000, at_least=False)


def estimate(sections: Sequence[Section]) -> Iterator[Goal]:
    """The interval of the accuracy holds the truth as often as it says, where it could: of what was not refused."""
    rows: list[Held] = [row for row in sections[0].rows if row.tool == "Modelyard"]
    for row in rows:
        blind = "no label yet" in row.case or "until the first" in row.case
        if row.refused < row.windows and not blind:
            yield Goal("estimate", f"held the accuracy, {row.case}", row.accuracy, "of windows", STATED)


def shipping(sections: Sequence[Section]) -> Iterator[Goal]:
    """Few microseconds a row where rows come in bulk, and small windows."""
    rows: list[Shipped] = list(sections[0].rows)
    yield Goal("shipping", "counting a row, median", median(row.counted for row in rows), "us", 5.0, at_least=False)
    yield Goal(
        "shipping", "a window of 20 columns", max(row.window_bytes for row in rows), "bytes", 30_000, at_least=False
    )


def cost(sections: Sequence[Section]) -> Iterator[Goal]:
    """Nine tenths of the throughput, and nothing lost for it."""
    rows: list[Cost] = list(sections[0].rows)
    base = {row.rows_a_call: row for row in rows if row.server == OFF}
    for row in (row for row in rows if row.server == ON):
        beside = base[row.rows_a_call].calls_a_second
        what = f"calls of {row.rows_a_call} rows a second, on beside off"
        yield Goal("cost", what, row.calls_a_second, "/s", 0.9, beside=beside, ratio=row.ratio)
    kept: list[Kept] = list(sections[1].rows)
    for each in kept:
        wrong = each.lost + each.twice + each.uncounted
        yield Goal("cost", f"rows lost, twice or not counted, of {each.rows:,}", wrong, "rows", 0, at_least=False)


GOALS: Mapping[str, Callable[[Sequence[Any]], Iterator[Goal]]] = {
    "silence": silence,
    "rhythm": rhythm,
    "speed": speed,
    "shipping": shipping,
    "power": power,
    "estimate": estimate,
    "cost": cost,
}
