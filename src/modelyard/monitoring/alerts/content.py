"""What receivers are told, in the form that each takes: text, mail, JSON, Slack's and Alertmanager's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from html import escape
from typing import Any

from modelyard.monitoring.alerts import picture
from modelyard.monitoring.alerts.alert import Alert, Part, What
from modelyard.monitoring.alerts.outbox import Message

MOST_LINES = 10
"""So many parts are told; how many more there are is said."""

MOST_SPELLS = 5
"""So many times at which a part was bad are told, the latest."""

LONGEST = 300
"""Letters of a line: names of columns and of newcomers are not ours."""

VALID = timedelta(minutes=20)
"""So long Alertmanager takes an alert for firing without being told again."""

_COLORS = {What.RESOLVED: "#2e8b57", What.TEST: "#8a94a6"}
_FIRING = "#d9622b"


def title(message: Message) -> str:
    """One line."""
    return clean(f"[{message.what}] {message.alert.title}")


def text(message: Message) -> str:
    """Everything, for people, as plain text."""
    return "\n".join(_lines(message)) + "\n"


def _lines(message: Message) -> Iterator[str]:
    alert = message.alert
    yield clean(alert.title)
    about = f"alert {alert.id}, {alert.state}" + (f", came {alert.times} times" if alert.times > 1 else "")
    yield clean(f"{about}; {alert.version or 'the whole deployment'}, since {moment(alert.since)}")
    if alert.loss:
        yield clean(f"what it costs: {alert.loss}")
    if alert.acknowledged is not None:
        yield clean(f"acknowledged by {alert.acknowledged.by}: {alert.acknowledged.why}".rstrip(": "))
    if alert.resolved is not None:
        by = f"{alert.resolved.by}: " if alert.resolved.by else ""
        yield clean(f"over: {by}{alert.resolved.why}")
    yield ""
    for part in alert.parts[:MOST_LINES]:
        yield clean(f"- {part.text} ({strength(part)})")
        yield from (clean(f"  {said}") for said in spells(part)[-MOST_SPELLS:])
    if len(alert.parts) > MOST_LINES:
        yield f"- and {len(alert.parts) - MOST_LINES} more"
    yield from (clean(f"  worst in: {said}") for said in worst(alert))
    name, shares = picture.shares(alert)
    if shares:
        before, after = picture.lines(shares)
        yield from ("", clean(f"{name}  before  {before}"), clean(f"{' ' * len(name)}  after   {after}"))
    if alert.open and alert.id:
        yield from ("", f'modelyard monitor ack {alert.id} --why "..."')


def worst(alert: Alert) -> list[str]:
    """The slices that the model does worst in, as the newest part that knows any tells them; a line each."""
    knowing = [part for part in alert.parts if part.details.get("worst")]
    if not knowing:
        return []
    newest = max(knowing, key=lambda part: part.last)
    return [str(each["said"]) for each in newest.details["worst"]]


def spells(part: Part) -> list[str]:
    """Where it was bad several times within what was looked at in one go: each time in a line, oldest first."""
    found = part.details.get("spells") or ()
    return [
        f"from {moment(datetime.fromisoformat(each['since']))} to {moment(datetime.fromisoformat(each['last']))}: "
        f"{each['said']}"
        for each in found
        if each["since"] and each["last"]
    ]


def strength(part: Part) -> str:
    """How sure it is and how large, against what is needed and what would be harmless.

    >>> from datetime import UTC, datetime
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> part = Part(watch="drift.score", subject="", slice="", said="", evidence=400.0, needed=100.0, effect=0.3,
    ...             margin=0.05, rank=1.0, first=at, last=at, looked=at)
    >>> strength(part)
    'evidence 4 times what is needed, effect 0.3 where 0.05 is harmless'
    """
    sure = "certain" if math.isinf(part.evidence) else f"evidence {_times(part)} times what is needed"
    return f"{sure}, effect {part.effect:.3g} where {part.margin:.3g} is harmless"


def _times(part: Part) -> str:
    times = part.evidence / part.needed if part.needed > 0 else math.inf
    return "over a million" if times > 1e6 else f"{times:.3g}"


def moment(at: datetime) -> str:
    """A moment for people."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def clean(line: str) -> str:
    """One line that nothing in it can break out of.

    >>> clean("a" + chr(10) + "Bcc: all@example.org")
    'a Bcc: all@example.org'
    """
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def document(alert: Alert) -> dict[str, Any]:
    """An alert for machines: what `--json`, the control API and webhooks give."""
    return {
        "id": alert.id,
        "state": alert.state.value,
        "title": alert.title,
        "deployment": alert.deployment,
        "version": alert.version,
        "kind": alert.kind.value,
        "cause": alert.cause,
        "since": alert.since,
        "last": alert.last,
        "opened": alert.opened,
        "times": alert.times,
        "sequence": alert.told.number if alert.told else 0,
        "loss": alert.loss,
        "worst": worst(alert),
        "parts": [_part(part) for part in alert.parts],
        "acknowledged": alert.acknowledged,
        "resolved": alert.resolved,
        "told": alert.told and {"what": alert.told.what.value, "at": alert.told.at},
    }


def _part(part: Part) -> dict[str, Any]:
    """JSON knows no infinity: what is certain has no number as its evidence."""
    return {
        "watch": part.watch,
        "subject": part.subject,
        "slice": part.slice,
        "said": part.said,
        "evidence": part.evidence if math.isfinite(part.evidence) else None,
        "needed": part.needed if math.isfinite(part.needed) else None,
        "effect": part.effect,
        "margin": part.margin,
        "rank": part.rank,
        "first": part.first,
        "last": part.last,
        "details": part.details,
    }


def webhook(message: Message) -> dict[str, Any]:
    """What a webhook gets: a type, a time, the alert, and its picture as SVG."""
    _, shares = picture.shares(message.alert)
    return {
        "type": f"alert.{message.what.replace(' ', '_')}",
        "timestamp": message.made,
        "text": text(message),
        "data": {**document(message.alert), "plot": picture.svg(shares) if shares else None},
    }


def slack(message: Message) -> dict[str, Any]:
    """What Slack and those that take the same get. Nothing in it can mention people or make links."""
    color = _COLORS.get(message.what, _FIRING)
    head, body = (value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for value in _said(message))
    return {"text": head, "attachments": [{"color": color, "fallback": head, "text": body, "mrkdwn_in": []}]}


def _said(message: Message) -> tuple[str, str]:
    return title(message), text(message).partition("\n")[2]


def alertmanager(alert: Alert, now: datetime) -> dict[str, Any]:
    """What Alertmanager gets: labels that stay the same while the alert is the same, and until when it is valid."""
    ends = now + VALID if alert.open else now
    return {
        "labels": {
            "alertname": f"modelyard_{alert.cause.replace('.', '_')}",
            "alert": str(alert.id),
            "deployment": alert.deployment,
            **({"version": alert.version} if alert.version else {}),
            "cause": alert.cause,
        },
        "annotations": {
            "summary": clean(alert.title),
            "description": "\n".join(clean(f"{part.text} ({strength(part)})") for part in alert.parts[:MOST_LINES]),
            **({"loss": clean(alert.loss)} if alert.loss else {}),
            **({"worst": clean("; ".join(worst(alert)))} if worst(alert) else {}),
            "since": alert.since.astimezone(UTC).isoformat(),
        },
        "startsAt": min(alert.opened, now).astimezone(UTC).isoformat(),
        "endsAt": ends.astimezone(UTC).isoformat(),
    }


def email(message: Message, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """A mail: text, and the same as HTML with the picture. One that comes twice has the same Message-ID."""
    mail = EmailMessage()
    mail["Subject"] = title(message)
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Date"] = message.made
    domain = sender.rpartition("@")[2]
    mail["Message-ID"] = f"<{message.key}@{domain}>"
    if message.alert.id:  # mail programs show what has the same reference as one conversation
        mail["References"] = f"<alert-{message.alert.id}-{message.alert.opened.timestamp():.0f}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text(message))
    name, shares = picture.shares(message.alert)
    shown = f"<pre>{escape(text(message))}</pre>"
    if shares:
        shown += f'<p>{escape(clean(name))}: before (grey) and after</p><img src="cid:plot@{domain}" alt="">'
    mail.add_alternative(f"<!doctype html><html><body>{shown}</body></html>", subtype="html")
    if shares:
        html = mail.get_payload(1)
        html.add_related(picture.png(shares), "image", "png", cid=f"<plot@{domain}>")  # type: ignore[union-attr]
    return mail


def trial(name: str, now: datetime) -> Message:
    """What is sent to see whether a receiver can be reached."""
    part = Part(
        watch="health.trial",
        subject="",
        slice="",
        said=f"a trial of the receiver {name}; nothing is wrong",
        evidence=0.0,
        needed=1.0,
        effect=0.0,
        margin=0.0,
        rank=0.0,
        first=now,
        last=now,
        looked=now,
    )
    alert = Alert(deployment="modelyard", version="", cause="trial", parts=(part,), since=now, opened=now)
    key = f"trial_{now.timestamp():.0f}"
    return Message(key=key, what=What.TEST, alert=alert, made=now)
