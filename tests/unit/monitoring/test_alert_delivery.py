"""Messages on their way to real servers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hook_server import Hooks, hook_server
from mail_server import Mailbox, mail_server
from modelyard.errors import InvalidRequest, NameTaken
from modelyard.monitoring.alerts import Alerts
from modelyard.monitoring.alerts.courier import Courier, tried
from modelyard.monitoring.alerts.deliveries import deliveries, standings
from modelyard.monitoring.alerts.outbox import Outbox
from modelyard.monitoring.alerts.receivers import Form, Receiver, Receivers, Tls, checked
from modelyard.registry.database import Database
from unit.monitoring.alert_looks import found, look

SECRET = "xoxb-correct-horse"
PLOT = {"plot": [["a", 0.75, 0.25], ["b <i>", 0.25, 0.75]]}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "registry.db")
    yield opened
    opened.close()


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with hook_server() as running:
        yield running


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as running:
        yield running


def add(database: Database, form: Form, name: str = "ops", **more: object) -> Receiver:
    return Receivers(database).add(Receiver(name=name, form=form, **more))  # type: ignore[arg-type]


def fire(database: Database, at: int = 0, **more: object) -> None:
    Alerts(database).take([look(at, found(details=PLOT, **more))])


def states(database: Database, receiver: str = "ops", alert: int = 1) -> list[tuple[str, str]]:
    return [(each.what, each.state) for each in deliveries(database, alert) if each.receiver == receiver]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_webhook_gets_the_alert_signed(database: Database, hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_" + base64.b64encode(b"key").decode())
    monkeypatch.setenv("HOOK_TOKEN", SECRET)
    add(database, Form.WEBHOOK, url=f"{hooks.url}/hook", secret_from="HOOK_SECRET", token_from="HOOK_TOKEN")
    fire(database)
    Courier(database).once()
    (call,) = hooks.calls
    assert call.path == "/hook"
    assert call.headers["authorization"] == f"Bearer {SECRET}"
    identity, stamp = call.headers["webhook-id"], call.headers["webhook-timestamp"]
    proof = hmac.new(b"key", f"{identity}.{stamp}.".encode() + call.body, hashlib.sha256).digest()
    assert call.headers["webhook-signature"] == "v1," + base64.b64encode(proof).decode()
    assert call.document["type"] == "alert.firing"
    data = call.document["data"]
    assert (data["id"], data["state"], data["deployment"], data["version"]) == (1, "firing", "flights", "m@1")
    assert data["parts"][0]["subject"] == "temp"
    assert data["plot"].startswith("<svg ")
    assert "b &lt;i&gt;: 25.00% before, 75.00% after" in data["plot"]
    assert states(database) == [("firing", "sent")]


def test_slack_gets_words_that_mention_nobody(
    database: Database, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK", f"{hooks.url}/services/T0/B0/{SECRET}")
    add(database, Form.SLACK, url_from="SLACK")
    fire(database, said="<!channel> & more")
    Courier(database).once()
    document = hooks.calls[0].document
    assert document["text"] == "[firing] flights: temp: &lt;!channel&gt; &amp; more"
    assert "<" not in document["attachments"][0]["text"]
    assert "before  █▃\n" in document["attachments"][0]["text"]


def test_alertmanager_is_told_again_while_it_goes_on_and_of_the_end(
    database: Database, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.monitoring.alerts.courier.REFRESH_SECONDS", 0.2)
    add(database, Form.ALERTMANAGER, url=f"{hooks.url}/")
    fire(database)
    courier = Courier(database)
    courier.start()
    courier.wake()
    until(lambda: len(hooks.calls) >= 3)
    Alerts(database).resolve(1, "ann")
    courier.wake()
    until(lambda: ("resolved", "sent") in states(database))
    courier.stop()
    assert {call.path for call in hooks.calls} == {"/api/v2/alerts"}
    told = [call.document[0] for call in hooks.calls]
    assert len({tuple(each["labels"].items()) for each in told}) == 1
    assert told[0]["labels"] == {
        "alertname": "modelyard_data",
        "alert": "1",
        "deployment": "flights",
        "version": "m@1",
        "cause": "data",
    }
    ends = [datetime.fromisoformat(each["endsAt"]) for each in told]
    assert ends[0] > datetime.now(UTC) + timedelta(minutes=15)
    assert ends[-1] <= datetime.now(UTC)
    assert all(datetime.fromisoformat(each["startsAt"]) <= end for each, end in zip(told, ends, strict=True))


def test_mail_has_text_a_picture_and_one_conversation(database: Database, mailbox: Mailbox) -> None:
    mail = {
        "host": "127.0.0.1",
        "port": mailbox.port,
        "sender": "yard@example.org",
        "to": ("a@example.org", "b@example.org"),
    }
    add(database, Form.EMAIL, **mail)
    fire(database, said="31% missing\r\nBcc: everybody@example.org")
    Courier(database).once()
    Alerts(database).resolve(1, "ann", "repaired")
    Courier(database).once()
    first, second = mailbox.mails
    assert first["Subject"] == "[firing] flights: temp: 31% missing  Bcc: everybody@example.org"
    assert first["Bcc"] is None
    assert first["To"] == "a@example.org, b@example.org"
    assert first["References"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]
    kinds = [part.get_content_type() for part in first.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]
    picture = next(part for part in first.walk() if part.get_content_type() == "image/png").get_content()
    assert picture.startswith(b"\x89PNG")
    body = second.get_body(("plain",))
    assert body is not None
    assert "over: ann: repaired" in body.get_content()


@pytest.mark.parametrize(("code", "words"), [(450, "450"), (550, "550")])
def test_a_mailbox_that_refuses_is_told_by_code_alone(mailbox: Mailbox, code: int, words: str) -> None:
    mailbox.refuses = code
    said = tried(
        Receiver(
            name="a", form=Form.EMAIL, host="127.0.0.1", port=mailbox.port, sender="a@b", to=("c@d",), tls=Tls.NONE
        )
    )
    assert words in said
    assert "business" not in said


def test_the_log_is_always_told(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    fire(database)
    with caplog.at_level(logging.INFO, "modelyard.alerts"):
        Courier(database).once()
    assert caplog.messages == ["alert 1 firing: flights: temp: moved 3 times as far as is harmless"]
    assert states(database, "log") == [("firing", "sent")]


def test_a_dead_receiver_and_a_slow_one_hold_up_nobody(database: Database, hooks: Hooks) -> None:
    add(database, Form.WEBHOOK, "dead", url="http://127.0.0.1:1/")
    add(database, Form.WEBHOOK, "good", url=hooks.url)
    with hook_server() as slow:
        slow.status = None
        add(database, Form.WEBHOOK, "slow", url=slow.url)
        fire(database)
        courier = Courier(database, seconds=20.0)
        courier.start()
        until(lambda: states(database, "good") == [("firing", "sent")] and bool(slow.calls))
        assert states(database, "slow") == [("firing", "waiting")]
        fire(database, subject="other")  # the monitor goes on
        slow.over.set()
        courier.stop(grace=0.1)
    counted = {each.receiver.name: (each.sent, each.waiting) for each in standings(database)}
    assert counted["dead"] == (0, 1)
    assert "cannot be reached: " in next(each.error for each in standings(database) if each.receiver.name == "dead")


def test_an_answer_that_does_not_come_is_given_up_and_tried_again_with_the_same_key(
    database: Database, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.monitoring.alerts.courier.FIRST_PAUSE", 0.05)
    monkeypatch.setattr("modelyard.monitoring.alerts.courier.LOOK_SECONDS", 0.05)
    hooks.status = None
    add(database, Form.WEBHOOK, url=hooks.url)
    fire(database)
    courier = Courier(database, seconds=0.3)
    courier.start()
    until(lambda: len(hooks.calls) >= 2)
    hooks.status = 200
    until(lambda: states(database) == [("firing", "sent")])
    courier.stop()
    assert len({call.headers["webhook-id"] for call in hooks.calls}) == 1


def test_what_a_killed_courier_held_is_brought_by_the_next(
    database: Database, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(database, Form.WEBHOOK, url=hooks.url)
    fire(database)
    monkeypatch.setattr("modelyard.monitoring.alerts.outbox.LEASE", timedelta(0))
    held = Outbox(database).take("ops", datetime.now(UTC))  # and then it was killed
    assert held is not None
    Courier(database).once()
    assert [call.headers["webhook-id"] for call in hooks.calls] == [held.message.key]


def test_a_receiver_that_asks_for_patience_gets_it(database: Database, hooks: Hooks) -> None:
    hooks.status, hooks.headers = 429, {"Retry-After": "120"}
    add(database, Form.WEBHOOK, url=hooks.url)
    fire(database)
    Courier(database).once()
    now = datetime.now(UTC)
    assert Outbox(database).take("ops", now + timedelta(seconds=100)) is None
    assert Outbox(database).take("ops", now + timedelta(seconds=125)) is not None


def test_one_message_that_is_refused_does_not_hold_up_the_next(database: Database, hooks: Hooks) -> None:
    add(database, Form.WEBHOOK, url=hooks.url)
    fire(database)
    hooks.status = 413
    Courier(database).once()
    hooks.status = 200
    Alerts(database).take([look(0, found("", "skew.replayed"))])
    Courier(database).once()
    assert (states(database, alert=1), states(database, alert=2)) == ([("firing", "waiting")], [("firing", "sent")])


def test_redirects_are_not_followed(database: Database, hooks: Hooks) -> None:
    with hook_server() as elsewhere:
        hooks.status, hooks.headers = 307, {"Location": f"{elsewhere.url}/taken"}
        said = tried(Receiver(name="a", form=Form.WEBHOOK, url=hooks.url))
        assert elsewhere.calls == []
    assert said == f"{hooks.url} answered 307, and is not followed to another address"


def test_secrets_are_in_no_listing_log_or_error(
    database: Database, hooks: Hooks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    hooks.status = 500
    monkeypatch.setenv("HOOK", f"{hooks.url}/{SECRET}")
    (tmp_path / "gone").write_text(f"http://127.0.0.1:1/{SECRET}?key={SECRET}")
    (tmp_path / "bad").write_text(f"https://ann:{SECRET}@[/x")
    (tmp_path / "plain").write_text(f"http://example.org/{SECRET}")
    add(database, Form.SLACK, "failing", url_from="HOOK")
    add(database, Form.SLACK, "gone", url_from=str(tmp_path / "gone"))
    add(database, Form.WEBHOOK, "bad", url_from=str(tmp_path / "bad"))
    add(database, Form.WEBHOOK, "plain", url_from=str(tmp_path / "plain"))
    add(database, Form.WEBHOOK, "missing", url_from="NO_SUCH_VARIABLE")
    add(database, Form.WEBHOOK, "path", url=f"{hooks.url}/{SECRET}")
    fire(database)
    with caplog.at_level(logging.DEBUG):
        Courier(database).once()
    assert len(hooks.calls) == 2
    errors = {each.receiver.name: each.error for each in standings(database)}
    assert errors["failing"] == f"{hooks.url} answered 500"
    assert errors["gone"] == "http://127.0.0.1:1 cannot be reached: Connection refused"
    assert errors["bad"].endswith("cannot be read as one")
    assert errors["plain"].endswith("is not https: the token could be read on the way")
    assert errors["missing"] == "the secret in NO_SUCH_VARIABLE is not there: that variable is empty or gone"
    shown = [*errors.values(), *(each.receiver.place for each in standings(database)), caplog.text]
    assert not [text for text in shown if SECRET in text]
    assert "receiver failing does not take alerts" in caplog.text


def test_receivers_that_could_not_be_told_safely_are_refused(database: Database) -> None:
    token, mail = {"token_from": "TOKEN"}, {"host": "mail.example.org", "sender": "a@b", "to": ("c@d",)}
    refused: list[tuple[Form, dict[str, object], str]] = [
        (Form.WEBHOOK, {}, "needs an address"),
        (Form.WEBHOOK, {"url": "https://a.example.org", "url_from": "URL"}, "needs an address"),
        (Form.WEBHOOK, {"url": "file:///etc/passwd"}, "not of the form"),
        (Form.WEBHOOK, {"url": f"https://ann:{SECRET}@example.org"}, "holds a user or password"),
        (Form.WEBHOOK, {"url": "http://example.org", **token}, "not https"),
        (Form.SLACK, {"url": f"https://hooks.slack.com/services/{SECRET}"}, "secret"),
        (Form.EMAIL, {"host": "mail.example.org"}, "needs a host, a sender"),
        (Form.EMAIL, {**mail, "to": ("c@d\r\nBcc: e@f",)}, "not the address of a mailbox"),
        (Form.EMAIL, {**mail, "tls": Tls.NONE, "password_from": "PASSWORD"}, "without TLS"),
        (Form.LOG, {}, "always told"),
    ]
    for form, more, words in refused:
        with pytest.raises(InvalidRequest, match=words) as caught:
            checked(Receiver(name="ops", form=form, **more))  # type: ignore[arg-type]
        assert SECRET not in str(caught.value)
    assert [
        checked(Receiver(name="a", form=Form.EMAIL, **mail, **more)).port
        for more in (  # type: ignore[arg-type]
            {},
            {"password_from": "P"},
            {"tls": Tls.TLS},
            {"port": 2525},
        )
    ] == [25, 587, 465, 2525]
    add(database, Form.WEBHOOK, url="https://example.org")
    with pytest.raises(NameTaken, match="--replace"):
        add(database, Form.WEBHOOK, url="https://example.org")
    with pytest.raises(NameTaken):
        add(database, Form.WEBHOOK, "log", url="https://example.org")
