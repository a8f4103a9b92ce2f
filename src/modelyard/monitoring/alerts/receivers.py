"""Where alerts are sent: names, kinds, addresses, and where secrets are found. The secrets themselves are not kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, delete, insert, select

from modelyard.domain.names import check_name
from modelyard.errors import Failed, InvalidRequest, NameTaken, NotFound
from modelyard.monitoring.alerts.alert import Alert
from modelyard.registry.alert_tables import alert_messages, alert_receivers
from modelyard.registry.database import Database


class Form(StrEnum):
    """How a receiver is told."""

    LOG = "log"
    WEBHOOK = "webhook"
    """JSON by HTTP POST, signed as Standard Webhooks says if there is a secret."""
    SLACK = "slack"
    """The incoming webhooks of Slack, and those that take the same (Mattermost, Rocket.Chat, Discord's ``/slack``)."""
    ALERTMANAGER = "alertmanager"
    """The API (v2) of Prometheus Alertmanager."""
    EMAIL = "email"
    """SMTP."""


class Tls(StrEnum):
    """How a connection to a mail server is made secret."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Receiver(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One receiver. What ends in `_from` is a place: the name of an environment variable, or the path of a file."""

    name: str
    form: Form
    url: str = ""
    url_from: str = ""
    """For addresses that are secret themselves, as those of Slack are."""
    token_from: str = ""
    """Sent as ``Authorization: Bearer``."""
    secret_from: str = ""
    """What webhooks are signed with."""
    host: str = ""
    port: int = 0
    tls: Tls = Tls.STARTTLS
    user: str = ""
    password_from: str = ""
    sender: str = ""
    to: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    """Patterns of the deployments whose alerts it gets; none: of all."""
    kinds: tuple[str, ...] = ()
    """Kinds of findings (``drift``, ``performance``); none: all."""

    def wants(self, alert: Alert) -> bool:
        """Whether it gets that alert."""
        named = not self.deployments or any(fnmatchcase(alert.deployment, pattern) for pattern in self.deployments)
        return named and (not self.kinds or any(part.kind.value in self.kinds for part in alert.parts))

    @property
    def place(self) -> str:
        """Where it is, as far as that may be shown: neither path nor query nor user of an address."""
        if self.url:
            return origin(self.url)
        if self.url_from:
            return f"the address in {self.url_from}"
        return f"{self.host}:{self.port}, to {', '.join(self.to)}" if self.host else ""


LOG = Receiver(name="log", form=Form.LOG)
"""Always there."""


def origin(url: str) -> str:
    """The part of an address that names a server and no secret.

    >>> origin("https://hooks.example.org/services/T0/B0/secret?key=1")
    'https://hooks.example.org'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{parts.port}" if parts.port else "")


def checked(receiver: Receiver) -> Receiver:
    """The receiver, if one can be told so.

    Raises:
        InvalidRequest: something is missing, or would send a secret where others can read it.
    """
    check_name(receiver.name, "receiver")
    if receiver.form is Form.LOG:
        raise InvalidRequest("the log is always told; it needs not be added")
    if receiver.form is Form.EMAIL:
        return _checked_email(receiver)
    if bool(receiver.url) == bool(receiver.url_from):
        raise InvalidRequest(f"a receiver of the kind {receiver.form} needs an address or the place where it is kept")
    if receiver.url:
        check_address(receiver.url, is_secret=bool(receiver.token_from), slack=receiver.form is Form.SLACK)
    return receiver


def check_address(url: str, *, is_secret: bool = False, slack: bool = False, told: str = "") -> None:
    """Refuse an address that nothing could be sent to, or not safely. The message does not repeat it.

    Raises:
        InvalidRequest: it is not HTTP, names no host, holds a password, or would send a token without TLS.
    """
    told = told or "the address"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidRequest(f"{told} cannot be read as one") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(letter <= " " for letter in url):
        raise InvalidRequest(f"{told} is not of the form https://host/path")
    if parts.username or parts.password or parts.fragment:
        raise InvalidRequest(f"{told} holds a user or password: put a token into a variable and name that instead")
    if slack and parts.hostname.endswith("hooks.slack.com"):
        raise InvalidRequest(
            "addresses of Slack's webhooks are secret: put it into a variable and name that with --url-from"
        )
    if parts.scheme == "http" and is_secret and not is_loopback(parts.hostname):
        raise InvalidRequest(f"{told} is not https: the token could be read on the way")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_email(receiver: Receiver) -> Receiver:
    if not (receiver.host and receiver.to and receiver.sender):
        raise InvalidRequest("a receiver of the kind email needs a host, a sender and whom to send to")
    for address in (receiver.sender, *receiver.to):
        if "@" not in address or any(letter <= " " or letter in ",;<>" for letter in address):
            raise InvalidRequest(f"{address!r} is not the address of a mailbox")
    if receiver.tls is Tls.NONE and receiver.password_from and not is_loopback(receiver.host):
        raise InvalidRequest("without TLS the password could be read on the way: use --tls starttls or tls")
    default = 465 if receiver.tls is Tls.TLS else 587 if receiver.password_from else 25
    return msgspec.structs.replace(receiver, port=receiver.port or default)


def secret(place: str, environment: Mapping[str, str] | None = None) -> str:
    """What is kept in a place: a file if it is written as a path, else an environment variable.

    Raises:
        Failed: there is nothing.
    """
    found: str | None
    if "/" in place:
        try:
            found = Path(place).read_text().strip()
        except (OSError, UnicodeDecodeError):
            found = None
    else:
        found = (os.environ if environment is None else environment).get(place)
    if not found:
        raise Failed(
            f"the secret in {place} is not there: {'that file' if '/' in place else 'that variable'} is empty or gone"
        )
    return found


def known(connection: Connection) -> list[Receiver]:
    """All receivers, within a transaction."""
    rows = connection.execute(select(alert_receivers).order_by(alert_receivers.c.name)).all()
    kept = [msgspec.convert({**row.settings, "name": row.name, "form": row.kind}, Receiver) for row in rows]
    return [LOG, *kept]


class Receivers:
    """The receivers of one metadata database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listed(self) -> list[Receiver]:
        """All, the log first."""
        with self._database.read() as connection:
            return known(connection)

    def get(self, name: str) -> Receiver:
        """The receiver of that name.

        Raises:
            NotFound: there is none.
        """
        there = {each.name: each for each in self.listed()}
        if name not in there:
            raise NotFound(f"no receiver {name!r}; there are: {', '.join(there)}")
        return there[name]

    def add(self, receiver: Receiver, by: str = "", *, replace: bool = False) -> Receiver:
        """Send alerts there too.

        Raises:
            InvalidRequest: it cannot be sent to as it is.
            NameTaken: there is one of that name, and it is not to be replaced.
        """
        receiver = checked(receiver)
        settings = msgspec.to_builtins(receiver)
        del settings["name"], settings["form"]
        row = {"kind": receiver.form.value, "settings": settings, "by": by, "at": datetime.now(UTC)}
        with self._database.write() as connection:
            here = alert_receivers.c.name == receiver.name
            there = {each.name for each in known(connection)}
            if receiver.name in there and (not replace or receiver.name == LOG.name):
                raise NameTaken(f"there is a receiver {receiver.name!r} already: --replace puts this one in its place")
            connection.execute(delete(alert_receivers).where(here))
            connection.execute(insert(alert_receivers).values(name=receiver.name, **row))
        return receiver

    def remove(self, name: str) -> Receiver:
        """Send nothing there any more, nor what still waits.

        Raises:
            NotFound: there is none of that name.
            InvalidRequest: it is the log.
        """
        there = self.get(name)
        if there == LOG:
            raise InvalidRequest("the log is always told")
        with self._database.write() as connection:
            connection.execute(delete(alert_receivers).where(alert_receivers.c.name == name))
            mine = (alert_messages.c.receiver == name) & (alert_messages.c.state == "waiting")
            connection.execute(delete(alert_messages).where(mine))
        return there
