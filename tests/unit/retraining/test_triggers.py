"""When a retraining begins by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelyard.retraining.plan import Plan
from modelyard.retraining.report import Report, State
from modelyard.retraining.triggers import Facts, OpenAlert, due

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ALERT = OpenAlert(7, "line@1", "mae is worse", frozenset({"performance", "performance.mae"}))
CALM = Facts(now=NOW, since=NOW - timedelta(days=2), champion="line@1")


def ran(hours: float, *alerts: int, state: State = "declined", labelled: int = 0) -> Report:
    return Report(
        deployment="live",
        model="line",
        champion="line@1",
        began=NOW - timedelta(hours=hours),
        alerts=alerts,
        state=state,
        labelled=labelled,
    )


@pytest.mark.parametrize(
    ("plan", "facts", "begins"),
    [
        (Plan(on=("alert",)), CALM, None),
        (Plan(on=("alert",)), replace(CALM, alerts=[ALERT]), "alert"),
        (Plan(on=("labels",)), replace(CALM, alerts=[ALERT]), None),
        (Plan(on=("alert",)), replace(CALM, alerts=[ALERT], is_rolling=True), None),
        (Plan(on=("alert",), alerts=("drift",)), replace(CALM, alerts=[ALERT]), None),
        (Plan(on=("alert",), alerts=("performance.mae",)), replace(CALM, alerts=[ALERT]), "alert"),
        (Plan(on=("alert",)), replace(CALM, champion="line@2", alerts=[ALERT]), None),
        (Plan(on=("alert",)), replace(CALM, alerts=[ALERT], before=[ran(5, 7)]), None),
        (Plan(on=("alert",)), replace(CALM, alerts=[ALERT], before=[ran(5, 6)]), "alert"),
        (Plan(on=("alert",)), replace(CALM, alerts=[ALERT], before=[ran(25, 7)]), "alert"),
        (Plan(on=("alert",)), replace(CALM, alerts=[ALERT], before=[ran(0.5, 6)]), None),
        (Plan(on=("alert",)), replace(CALM, alerts=[ALERT], before=[ran(30, 6, state="running")]), None),
        (Plan(on=("labels",), labels=100), replace(CALM, labelled=350, labelled_then=300), None),
        (Plan(on=("labels",), labels=100), replace(CALM, labelled=400, labelled_then=300), "labels"),
        (Plan(on=("labels",), labels=100), replace(CALM, labelled=400, before=[ran(5, labelled=350)]), None),
        # Records that expired take their labels with them.
        (Plan(on=("labels",), labels=100), replace(CALM, labelled=400, before=[ran(5, labelled=900)]), None),
        (Plan(on=("labels",), labels=100), replace(CALM, labelled=None), None),
        (Plan(on=("schedule",), every="1d"), CALM, "schedule"),
        (Plan(on=("schedule",), every="3d"), CALM, None),
        (Plan(on=("schedule",), every="1d"), replace(CALM, before=[ran(20)]), None),
    ],
)
def test_what_begins_when(plan: Plan, facts: Facts, begins: str | None) -> None:
    found = due(plan, facts)

    assert (found.trigger if found else None) == begins


def test_an_alert_says_why_and_all_that_are_open_are_answered() -> None:
    other = OpenAlert(9, "line@1", "x moved", frozenset({"drift"}))
    found = due(Plan(on=("schedule", "alert"), every="1s"), replace(CALM, alerts=[ALERT, other]))

    assert found is not None
    assert (found.alerts, found.why) == ((7, 9), "alert 7: mae is worse, and 1 more")
