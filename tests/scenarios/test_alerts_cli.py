"""Alerts as somebody on duty meets them, from the terminal, with a real receiver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hook_server import hook_server
from modelyard.cli.app import app
from modelyard.monitoring.alerts import Alerts
from modelyard.registry import Registry
from unit.monitoring.alert_looks import found, look


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "yard"))


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["monitor", *words])
    assert done.exit_code == code, done.output
    return done.output


def asked(*words: str) -> Any:
    return json.loads(run(*words, "--json"))


def test_from_the_first_alert_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no alert goes on" in run("alerts")
    with hook_server() as hooks, Registry.open() as registry:
        monkeypatch.setenv("HOOK", f"{hooks.url}/a-secret")
        assert "in HOOK" in run("receivers", "add", "team", "--kind", "slack", "--url-from", "HOOK")
        assert "team took it" in run("receivers", "test", "team")
        Alerts(registry.database).take([look(0, found("temp"), found("hum", "quality.missing", beyond=5))])
        assert "nothing waits" in run("deliver")
        assert [call.document["text"].split(":")[0] for call in hooks.calls] == ["[test] modelyard", "[firing] flights"]
        assert "1 firing  since 2026-03-01 00:00 UTC  m@1" in run("alerts", "flights")
        assert "- hum: moved 5 times" in run("alert", "1")
        assert "acknowledged" in run("ack", "1", "--why", "the new sensor")
        assert asked("alert", "1")["alert"]["acknowledged"]["why"] == "the new sensor"
        assert "1: flights-*, traffic until" in run("silence", "flights-*", "--for", "2h", "--watch", "traffic")
        assert len(asked("silences")["silences"]) == 1
        run("unsilence", "1")
        assert "nothing is silenced" in run("silences")
        assert "resolved" in run("resolve", "1")
        hooks.status = 503
        assert f"team: 1 wait: {hooks.url} answered 503" in run("deliver", code=1)
        shown = run("receivers", "list")
        assert "1 sent, 1 attempts failed, 0 given up" in shown
        assert "a-secret" not in shown + run("alert", "1") + json.dumps(asked("receivers", "list"))
        assert f"did not take it: {hooks.url} answered 503" in run("receivers", "test", "team", code=7)
        run("receivers", "remove", "team")
    assert "team" not in run("receivers", "list")


def test_what_cannot_be_done_is_said_in_a_line() -> None:
    assert "no alert 4; none goes on" in run("ack", "4", code=3)
    assert "'2 hours' is not a time" in run("silence", "flights", "--for", "2 hours", code=5)
    assert "needs an address" in run("receivers", "add", "a", "--kind", "webhook", code=5)
    assert "no receiver 'a'; there are: log" in run("receivers", "test", "a", code=3)
