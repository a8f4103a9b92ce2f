"""What alerts keep to on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from modelyard.errors import AlertNotFound, Conflict, InvalidRequest, NotFound
from modelyard.monitoring.alerts import Alerts, Policy, State
from modelyard.monitoring.alerts.alert import Silence, What
from modelyard.monitoring.alerts.deliveries import deliveries
from modelyard.monitoring.alerts.outbox import LEASE, MOST_WAITING, Outbox
from modelyard.monitoring.alerts.receivers import Form, Receiver, Receivers
from modelyard.monitoring.store import MonitorStore
from modelyard.registry.alert_tables import alert_messages
from modelyard.registry.database import Database
from unit.monitoring.alert_looks import NOW, found, look

OPS = Receiver(name="ops", form=Form.WEBHOOK, url="https://ops.example.org/hook", deployments=("fl*",))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    place: Path | str = tmp_path / "registry.db"
    if request.param == "postgresql":
        place = request.getfixturevalue("servers").database()
    opened = Database(place)
    yield opened
    opened.close()


def waiting(database: Database, receiver: str) -> list[tuple[int, What]]:
    """What waits for a receiver, taken out."""
    outbox, taken = Outbox(database), []
    while (owed := outbox.take(receiver, NOW)) is not None:
        taken.append((owed.message.alert.id, owed.message.what))
        outbox.sent(owed, NOW)
    return taken


def test_an_alert_from_its_beginning_to_its_end(database: Database) -> None:
    alerts = Alerts(database)
    Receivers(database).add(OPS, by="ann")
    opened = alerts.take([look(0, found("a"), found("b"))], NOW)
    assert [(alert.id, alert.state) for alert in opened] == [(1, State.FIRING)]
    assert alerts.get(1) == opened[0]
    assert waiting(database, "ops") == [(1, What.FIRING)]
    assert alerts.acknowledge(1, "ann", "a sensor", NOW).state is State.ACKNOWLEDGED
    assert alerts.take([look(1, found("a"))], NOW)[0].state is State.ACKNOWLEDGED
    assert waiting(database, "ops") == []
    ended = alerts.take([look(2), look(4), look(3)], NOW, Policy(quiet=3))
    assert [alert.state for alert in ended] == [State.RESOLVED]
    assert waiting(database, "ops") == [(1, What.RESOLVED)]
    said = [(event.what, event.by, event.why) for event in alerts.history(1)]
    assert said == [
        ("opened", "", ""),
        ("acknowledged", "ann", "a sensor"),
        ("resolved", "", "not found in 3 windows in a row"),
    ]
    assert alerts.listed("flights") == []
    assert [alert.id for alert in alerts.listed("flights", all_states=True)] == [1]
    with pytest.raises(Conflict, match="over already"):
        alerts.acknowledge(1, "ann", "late")
    with pytest.raises(AlertNotFound, match="no alert 7; none goes on"):
        alerts.get(7)


def test_the_same_looks_again_change_nothing_and_send_nothing(database: Database) -> None:
    alerts, looks = Alerts(database), [look(0, found()), look(1), look(2), look(3)]
    assert len(alerts.take(looks, NOW)) == 1
    kept = alerts.get(1)
    sent = waiting(database, "log")
    assert alerts.take(looks, NOW) == []
    assert (alerts.get(1), waiting(database, "log")) == (kept, [])
    assert sent == [(1, What.RESOLVED)]  # it was over before anybody had been told that it began


def test_a_message_that_cannot_be_read_does_not_hold_up_the_others(database: Database) -> None:
    Alerts(database).take([look(0, found()), look(0, found(), version="m@2")], NOW)
    with database.write() as connection:
        connection.execute(update(alert_messages).where(alert_messages.c.alert == 1).values(document=b"?"))
    assert waiting(database, "log") == [(2, What.FIRING)]
    assert [each.state for each in deliveries(database, 1)] == ["dropped"]


def test_what_is_set_for_a_deployment_holds_for_its_alerts(database: Database) -> None:
    MonitorStore(database).change_settings("flights", {"quiet": "1", "remind": "0"})
    alerts = Alerts(database)
    assert [alert.state for alert in alerts.take([look(0, found()), look(1)], NOW)] == [State.RESOLVED]
    alerts.take([look(2, found())], NOW)
    assert alerts.tend(NOW + timedelta(days=9)) == []


def test_resolved_by_hand(database: Database) -> None:
    alerts = Alerts(database)
    alerts.take([look(0, found())], NOW)
    assert alerts.resolve(1, "ann", "repaired", NOW).state is State.RESOLVED
    assert waiting(database, "log") == [(1, What.RESOLVED)]
    assert alerts.take([look(1, found())], NOW)[0].times == 2


def test_an_alert_that_begins_knows_what_the_estimate_said_last(database: Database) -> None:
    window = NOW - timedelta(hours=1)
    said = [
        found("accuracy", "estimate.accuracy", sure=False, said=words, version=version, window=window)
        for words, version in (("0.71, 0.78 before", "m@1"), ("0.9", "m@2"))
    ]
    MonitorStore(database).keep("flights", [], {}, said, (0, 1))
    Alerts(database).take([look(0, found())], NOW)
    owed = Outbox(database).take("log", NOW)
    assert owed is not None
    assert owed.message.alert.loss == "accuracy: 0.71, 0.78 before"


def test_what_is_sent_is_what_is_known_by_then(database: Database) -> None:
    alerts = Alerts(database)
    alerts.take([look(0, found())], NOW)
    alerts.take([look(1, found("auc", "performance.auc", beyond=0.1, said="0.61"), looked=("performance",))], NOW)
    owed = Outbox(database).take("log", NOW)
    assert owed is not None
    assert (owed.message.what, owed.message.alert.loss) == (What.FIRING, "auc: 0.61")


def test_silences(database: Database) -> None:
    alerts = Alerts(database)
    with pytest.raises(InvalidRequest, match="more than no time"):
        alerts.silence(Silence(starts=NOW, ends=NOW))
    kept = alerts.silence(
        Silence(deployment="flights", starts=NOW, ends=NOW + timedelta(hours=2), by="ann", why="known")
    )
    assert alerts.silences(NOW) == [kept]
    alerts.take([look(0, found())], NOW)
    assert waiting(database, "log") == []
    assert alerts.tend(NOW) == []
    alerts.unsilence(kept.id, NOW + timedelta(hours=1))
    assert alerts.silences(NOW + timedelta(hours=1)) == []
    with pytest.raises(NotFound, match="there are: none"):
        alerts.unsilence(kept.id, NOW + timedelta(hours=1))
    assert [alert.id for alert in alerts.tend(NOW + timedelta(hours=1))] == [1]
    owed = Outbox(database).take("log", NOW + timedelta(hours=1))
    assert owed is not None
    assert owed.message.what is What.FIRING


def test_of_one_alert_only_the_last_message_waits(database: Database) -> None:
    alerts = Alerts(database)
    alerts.take([look(0, found())], NOW)
    alerts.tend(NOW + timedelta(days=1))
    alerts.resolve(1, "ann", "", NOW)
    assert waiting(database, "log") == [(1, What.RESOLVED)]


def test_a_message_is_held_by_one_and_comes_back_when_that_one_is_gone(database: Database) -> None:
    Alerts(database).take([look(0, found())], NOW)
    with ThreadPoolExecutor(4) as pool:
        held = [each for each in pool.map(lambda _: Outbox(database).take("log", NOW), range(4)) if each is not None]
    assert len(held) == 1
    outbox = Outbox(database)
    assert outbox.receivers(NOW) == []
    again = outbox.take("log", NOW + LEASE)
    assert again is not None
    assert (again.message.key, again.attempts) == (held[0].message.key, 2)
    assert outbox.take("log", NOW - timedelta(days=365)) is not None  # held in a future that a clock made up


def test_what_fails_is_due_later_and_given_up_after_days(database: Database) -> None:
    Alerts(database).take([look(0, found())], NOW)
    outbox = Outbox(database)
    first = outbox.take("log", NOW)
    assert first is not None
    outbox.failed(first, "no answer", timedelta(seconds=8), NOW)
    assert outbox.take("log", NOW + timedelta(seconds=7)) is None
    later = NOW + timedelta(days=3)
    second = outbox.take("log", later)
    assert second is not None
    outbox.failed(second, "no answer", timedelta(seconds=8), later)
    assert [(row.state, row.error) for row in deliveries(database, 1)] == [("dropped", "no answer")]
    outbox.forget(later + timedelta(days=31))
    assert deliveries(database, 1) == []


def test_a_dead_receiver_has_so_many_messages_waiting_at_most(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.monitoring.alerts.outbox.MOST_WAITING", 5)
    assert MOST_WAITING == 1000
    Alerts(database).take([look(0, found(), version=f"m@{number}") for number in range(8)], NOW)
    assert [number for number, _ in waiting(database, "log")] == [4, 5, 6, 7, 8]


def test_alerts_taken_at_once_are_not_doubled(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Alerts(database).take([look(0, found())], NOW), range(4)))
    assert [alert.id for alert in Alerts(database).listed()] == [1]
    assert waiting(database, "log") == [(1, What.FIRING)]


def test_receivers_get_what_they_want(database: Database) -> None:
    receivers = Receivers(database)
    receivers.add(OPS)
    receivers.add(Receiver(name="perf", form=Form.SLACK, url_from="HOOK", kinds=("performance",)))
    Alerts(database).take([look(0, found()), look(0, found("", "performance.auc"))], NOW)
    assert [len(waiting(database, name)) for name in ("ops", "perf", "log")] == [2, 1, 2]
    receivers.remove("ops")
    assert [each.name for each in receivers.listed()] == ["log", "perf"]
