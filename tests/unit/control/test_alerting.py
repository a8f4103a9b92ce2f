from __future__ import annotations

from datetime import timedelta

import pytest

from modelyard.monitoring.alerts import Alerts
from modelyard.monitoring.alerts.receivers import Form, Receiver, Receivers
from modelyard.monitoring.store import MonitorStore
from modelyard.registry import Registry
from unit.control.test_api import Caller
from unit.monitoring.alert_looks import NOW, found, look


@pytest.fixture
def call(registry: Registry) -> Caller:
    Receivers(registry.database).add(Receiver(name="ops", form=Form.WEBHOOK, url="https://ops.example.org/a/secret"))
    certain = found("b", "quality.missing", sure=True)
    Alerts(registry.database).take([look(0, found("a"), certain)], NOW)
    return Caller(registry)


def test_alerts_are_seen_acknowledged_and_resolved(call: Caller) -> None:
    (alert,) = call("GET", "/alerts", params={"deployment": "flights"}).json()["alerts"]
    assert (alert["id"], alert["state"], len(alert["parts"])) == (1, "firing", 2)
    assert call("GET", "/alerts", params={"deployment": "other"}).json() == {"alerts": []}
    assert call("POST", "/alerts/1/acknowledge", json={"why": "known"}).status_code == 422
    said = call("POST", "/alerts/1/acknowledge", json={"by": "ann", "why": "known"}).json()["alert"]
    assert (said["state"], said["acknowledged"]["by"]) == ("acknowledged", "ann")
    assert call("POST", "/alerts/1/resolve", json={"by": "ann"}).json()["alert"]["state"] == "resolved"
    assert call("POST", "/alerts/1/resolve", json={"by": "ann"}).status_code == 409
    assert call("GET", "/alerts").json() == {"alerts": []}
    assert len(call("GET", "/alerts", params={"all": True}).json()["alerts"]) == 1
    shown = call("GET", "/alerts/1").json()
    assert [event["what"] for event in shown["history"]] == ["opened", "acknowledged", "resolved"]
    assert {each["receiver"]: each["state"] for each in shown["deliveries"]} == {"log": "waiting", "ops": "waiting"}
    missing = call("GET", "/alerts/9")
    assert (missing.status_code, missing.json()) == (404, {"error": "no alert 9; none goes on"})


def test_silences(call: Caller) -> None:
    kept = call("POST", "/silences", json={"deployment": "flights", "seconds": 3600, "by": "ann"}).json()["silence"]
    assert call("GET", "/silences").json()["silences"] == [kept]
    assert call("DELETE", f"/silences/{kept['id']}").status_code == 200
    assert call("DELETE", f"/silences/{kept['id']}").status_code == 404
    assert call("POST", "/silences", json={"seconds": -1, "by": "ann"}).status_code == 422


def test_receivers_are_shown_without_what_is_secret(call: Caller) -> None:
    answer = call("GET", "/receivers")
    assert {"name": "ops", "kind": "webhook", "place": "https://ops.example.org"} in answer.json()["receivers"]
    assert "secret" not in answer.text


def test_what_prometheus_asks_for(call: Caller, registry: Registry) -> None:
    unsure = found("a", sure=False, version="m@1", window=NOW)
    before = found("a", version="m@1", window=NOW - timedelta(hours=1))
    MonitorStore(registry.database).keep("flights", [], {}, [before, unsure], (0, 7200))
    text = call("GET", "/metrics").text
    assert 'modelyard_alerts{deployment="flights",kind="drift",state="firing",version="m@1"} 1.0' in text
    assert 'modelyard_alerts_opened_total{deployment="flights",kind="drift"} 1.0' in text
    assert 'modelyard_alert_messages_waiting{receiver="ops"} 1.0' in text
    assert "modelyard_alert_silences 0.0" in text
    of = '{deployment="flights",slice="",subject="a",version="m@1",watch="drift.input"}'
    assert f"modelyard_monitor_evidence_ratio{of} 0.01" in text
    assert f"modelyard_monitor_effect_ratio{of} 3.0" in text
    assert 'modelyard_monitor_reached_timestamp_seconds{deployment="flights"} 7200.0' in text
    assert call("GET", "/metrics", headers={"Accept": "application/openmetrics-text"}).text.endswith("# EOF\n")
