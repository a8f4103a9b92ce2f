"""The watch of performance as the monitor asks it: over recorded calls and labels, and again after a restart."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from live_records import calls, hour, register
from modelyard.domain.records import Label
from modelyard.home import Home
from modelyard.monitoring.alerts import Alerts
from modelyard.monitoring.monitor import Monitor
from modelyard.monitoring.store import MonitorStore
from modelyard.records.log import LabelLog
from modelyard.records.query import RecordDatabase
from modelyard.registry import Registry

HOURS, WORSE = 216, 180


def moment_ns(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp()) * 10**9


def add_labels(home: Home) -> None:
    """What came true lay around the answer; from an hour on, three times as far."""
    rng = np.random.default_rng(3)
    with RecordDatabase(home.records) as database:
        rows = database.query("SELECT prediction_id, time, predict FROM live ORDER BY time, prediction_id").to_pylist()
    log = LabelLog(home.records)
    log.append_many(
        Label(
            row["prediction_id"],
            row["predict"] + rng.normal(scale=1.5 if row["time"] >= hour(WORSE).replace(tzinfo=None) else 0.5),
            moment_ns(row["time"]) + 1,
            known_ns=moment_ns(row["time"]) + 600 * 10**9,
        )
        for row in rows
    )
    log.close()


def test_numbers_that_are_further_off_are_alarmed_and_the_steady_week_before_is_not(tmp_path: Path) -> None:
    with Registry.open(Home(tmp_path / "home")) as registry:
        register(registry, tmp_path)
        calls(registry, range(HOURS))
        add_labels(registry.home)
        Monitor(registry.home, registry).look(hour(HOURS))
        found = [
            each for each in MonitorStore(registry.database).findings("live", alarms=True) if each.kind == "performance"
        ]
        assert {each.watch for each in found} >= {"performance.mae"}
        mae = next(each for each in found if each.watch == "performance.mae" and not each.slice)
        assert mae.window is not None
        assert mae.window >= hour(WORSE)
        assert mae.details["now"] > 2 * mae.details["was"]
        states = MonitorStore(registry.database).states("live")
        Monitor(registry.home, registry).look(hour(HOURS))
        assert MonitorStore(registry.database).states("live") == states


def test_labels_that_stay_away_leave_an_alert_open(tmp_path: Path) -> None:
    """Without labels nobody can say that answers are good again; that labels are missing is what can be said."""
    with Registry.open(Home(tmp_path / "home")) as registry:
        register(registry, tmp_path)
        calls(registry, range(HOURS))
        add_labels(registry.home)
        Monitor(registry.home, registry).look(hour(HOURS))
        [worse] = [alert for alert in Alerts(registry.database).listed("live") if alert.cause == "performance"]
        for at in range(HOURS, HOURS + 120, 12):
            calls(registry, range(at, at + 12))
            Monitor(registry.home, registry).look(hour(at + 12))
        alert = Alerts(registry.database).get(worse.id)
        assert alert.state == "firing"
        # The last rows with labels may be taken in by the first of these looks.
        assert max(part.quiet for part in alert.parts if part.watch == "performance.mae") <= 1
