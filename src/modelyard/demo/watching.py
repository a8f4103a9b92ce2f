"""What monitoring made of the year: alerts, columns, performance by week, all asked of the product as a user would."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from modelyard.errors import ModelyardError, NotFound

if TYPE_CHECKING:
    from modelyard.home import Home
    from modelyard.monitoring.alerts import Alert
    from modelyard.monitoring.overview import Overview
    from modelyard.monitoring.store import MonitorStore
    from modelyard.registry import Registry

WINDOW_SECONDS = 86_400
"""The demo's windows: a day of flights."""

MOST_COLUMNS = 8
_CATCH_UP_SECONDS = 240.0
_METRIC = "auc"
_ESTIMATE = "estimate"
_YEAR_HOURS = 366 * 24.0


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert as it is told: since when, in one line, and its parts with the most important first."""

    since: str
    until: str
    title: str
    parts: tuple[str, ...]
    loss: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A column, its verdict beside the reference over the whole stretch, the distance, and how that went over time."""

    column: str
    verdict: str
    distance: float
    over_time: str
    said: str


@dataclass(frozen=True, slots=True)
class Week:
    """How good the answers of a week were, as far as labels say."""

    began: str
    rows: int
    labelled: float
    auc: float | None
    auc_interval: tuple[float, float] | None
    brier: float | None


@dataclass(frozen=True, slots=True)
class Expected:
    """The area under the ROC curve that was expected of some days before their labels came, and what came of it.

    Without `value` there was no estimate, for the `reason` that is told.
    """

    version: str
    began: str
    days: int
    trust: str
    reason: str
    value: float | None
    interval: tuple[float, float] | None
    turned_out: float | None


@dataclass(frozen=True, slots=True)
class Watched:
    """What the monitor found in one deployment."""

    deployment: str
    windows: int
    alerts: tuple[Raised, ...]
    columns: tuple[Moved, ...]
    steady: int
    weeks: tuple[Week, ...]
    expected: tuple[Expected, ...]
    report: str


def by_days(registry: Registry, deployments: tuple[str, ...]) -> None:
    """Have these deployments watched day by day, as ``modelyard monitor set DEPLOYMENT window=86400`` does.

    How many calls there are says nothing here: it is the demo that puts flights together into calls, or does not.
    """
    from modelyard.monitoring.store import MonitorStore
    from modelyard.monitoring.traffic import Absent

    chosen = {"window": str(WINDOW_SECONDS), "off": Absent.name}
    for name in deployments:
        MonitorStore(registry.database).change_settings(name, chosen, by="demo")


class Bell:
    """Tells of every alert once, while the flights go by."""

    def __init__(self, registry: Registry, deployments: tuple[str, ...], tell: Callable[[str], None]) -> None:
        from modelyard.monitoring.alerts import Alerts

        self._alerts, self._deployments, self._tell = Alerts(registry.database), deployments, tell
        self._told: set[int] = set()

    def look(self) -> None:
        """Tell what is new."""
        with suppress(ModelyardError):  # the database is busy; the next look sees it
            for name in self._deployments:
                for alert in reversed(self._alerts.listed(name, all_states=True)):
                    if alert.id not in self._told:
                        self._told.add(alert.id)
                        self._tell(f"alert, {alert.last:%d %b}: {alert.title}")


def catch_up(registry: Registry, deployments: tuple[str, ...], last_day: float) -> bool:
    """Wait until the monitor of ``modelyard up`` has looked at all days before the one that begins at `last_day`."""
    from modelyard.monitoring.store import MonitorStore

    store, until = MonitorStore(registry.database), monotonic() + _CATCH_UP_SECONDS
    while min(_reached(store, name) for name in deployments) < last_day:
        if monotonic() > until:
            return False
        sleep(0.2)
    return True


def _reached(store: MonitorStore, deployment: str) -> int:
    """How far both windows and labelled rows have been looked at, those of the version that answered last."""
    labelled = [gathered.reached for (_, watch), gathered in store.states(deployment).items() if watch == _ESTIMATE]
    return min(store.reached(deployment), max(labelled)) if labelled else 0


def found(home: Home, registry: Registry, deployment: str, versions: tuple[str, ...]) -> Watched:
    """What is known of a deployment now, and a page with plots of it in the demo's home.

    What moved is told of the first of the `versions` that were in use, beside what that one was trained on.
    """
    from modelyard.monitoring.alerts import Alerts
    from modelyard.monitoring.overview import overview

    try:
        seen = overview(registry, deployment, hours=_YEAR_HOURS, version=versions[0])
    except NotFound:  # on a machine with other work, the monitor may not have come to it yet
        return Watched(deployment, 0, (), (), 0, _weeks(home, deployment)[0], (), "no report yet")
    columns = _columns(seen)
    moved = [column for column in columns if column.verdict == "moved"]
    alerts = Alerts(registry.database).listed(deployment, all_states=True)
    weeks, sections = _weeks(home, deployment)
    return Watched(
        deployment=deployment,
        windows=seen.windows,
        alerts=tuple(_raised(alert) for alert in reversed(alerts)),
        columns=tuple(moved[:MOST_COLUMNS]),
        steady=len(columns) - len(moved),
        weeks=weeks,
        expected=tuple(each for version in versions for each in _expected(home, deployment, version)),
        report=str(_page(home.path / f"{deployment}.html", seen, sections)),
    )


def _raised(alert: Alert) -> Raised:
    return Raised(
        since=f"{alert.since:%d %b}",
        until="" if alert.open else f"{alert.last:%d %b}",
        title=alert.title,
        parts=tuple(part.text for part in alert.parts),
        loss=alert.loss,
    )


def _columns(seen: Overview) -> list[Moved]:
    from modelyard.monitoring.performance.text import spark

    compared = [] if seen.compared is None else seen.compared.columns
    told = [
        Moved(
            column=each.column,
            verdict=each.verdict.value,
            distance=each.effect.distance if each.effect else 0.0,
            over_time=spark([step.distance.get(each.column) for step in seen.steps]),
            said=each.said,
        )
        for each in compared
    ]
    return sorted(told, key=lambda each: -each.distance)


def _weeks(home: Home, deployment: str) -> tuple[tuple[Week, ...], list[str]]:
    from modelyard.monitoring.performance.groups import By
    from modelyard.monitoring.performance.page import section
    from modelyard.monitoring.performance.reading import performance
    from modelyard.records.query import RecordDatabase

    with RecordDatabase(home.records) as database:
        history = performance(database, deployment, home, by=By.WEEK, metrics=(_METRIC, "brier"))
    weeks = []
    for point in history.points:
        auc, brier = point.measures[_METRIC], point.measures["brier"]
        sure = None if auc.low is None or auc.high is None else (auc.low, auc.high)
        began = f"{point.began:%Y-%m-%d}"
        weeks.append(Week(began, point.rows, point.coverage, auc.value, sure, brier.value))
    return tuple(weeks), ["<h2>Performance</h2>", *section(history)]


def _expected(home: Home, deployment: str, version: str) -> list[Expected]:
    """As ``modelyard monitor estimate`` tells it: what was said of each window when it had closed."""
    from modelyard.monitoring.estimate.reading import estimates

    told = []
    for entry in estimates(home, deployment, int(version.rpartition("@")[2])).state.record:
        said = entry.values.get(_METRIC)
        began = datetime.fromtimestamp(entry.began, UTC)
        told.append(
            Expected(
                version=version,
                began=f"{began:%Y-%m-%d}",
                days=entry.seconds // 86_400,
                trust=entry.trust.value,
                reason=entry.reason,
                value=None if said is None else said.value,
                interval=None if said is None else (said.low, said.high),
                turned_out=entry.realized.get(_METRIC),
            )
        )
    return told


def _page(file: Path, seen: Overview, sections: list[str]) -> Path:
    from modelyard.monitoring.showing import page

    file.write_text(page(seen, sections), encoding="utf-8")
    return file
