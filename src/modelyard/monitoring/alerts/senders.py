"""Bringing one message to one receiver: HTTP and SMTP, within a time, to the address that was configured and no other.

What is told of a failure never holds an address beyond its server, nor anything that the receiver answered: both may
hold secrets.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import smtplib
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from modelyard import __version__
from modelyard.errors import ModelyardError
from modelyard.monitoring.alerts import content
from modelyard.monitoring.alerts.alert import Alert, What
from modelyard.monitoring.alerts.outbox import Message
from modelyard.monitoring.alerts.receivers import Form, Receiver, Tls, check_address, is_loopback, origin, secret

SECONDS = 20.0
"""A receiver has so long to take a message, from looking up its name to its answer."""

CONNECT_SECONDS = 5.0

_log = logging.getLogger("modelyard.alerts")
_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


class NotTaken(Exception):
    """A receiver has not taken a message, or it is not known. `alone`: others may fare better, it is about this one.

    `after` is in how many seconds the receiver wants to be asked again, if it said so.
    """

    def __init__(self, said: str, *, alone: bool = False, after: float = 0.0) -> None:
        self.said, self.alone, self.after = said, alone, after
        super().__init__(said)


class _HideAddresses(logging.Filter):
    """httpx logs every address that it asks; those of receivers may be secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _hidden.get()


class Sender:
    """Sends messages. Made and used within one event loop."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        # Neither proxies nor passwords of the environment, and no redirect: only what was configured is asked.
        self._http = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            verify=_trusted(),
            headers={"User-Agent": f"modelyard/{__version__}"},
        )
        logger = logging.getLogger("httpx")
        if not any(isinstance(each, _HideAddresses) for each in logger.filters):
            logger.addFilter(_HideAddresses())

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, receiver: Receiver, message: Message) -> None:
        """Bring a message to a receiver.

        Raises:
            NotTaken: it did not take it in time, or not at all.
        """
        sent = {
            Form.LOG: self._to_log,
            Form.WEBHOOK: self._to_webhook,
            Form.SLACK: self._to_slack,
            Form.ALERTMANAGER: self._to_alertmanager,
            Form.EMAIL: self._to_mailbox,
        }[receiver.form]
        async with self._in_time():
            await sent(receiver, message)

    async def _to_log(self, _receiver: Receiver, message: Message) -> None:
        level = logging.INFO if message.what in (What.RESOLVED, What.TEST) else logging.WARNING
        alert = message.alert
        said = content.clean(f"alert {alert.id} {message.what}: {alert.title}")
        _log.log(level, "%s", said, extra={"deployment": alert.deployment, "version": alert.version})

    async def _to_webhook(self, receiver: Receiver, message: Message) -> None:
        body = msgspec.json.encode(content.webhook(message), enc_hook=str)
        headers = {"webhook-id": message.key, "Idempotency-Key": message.key}
        if receiver.secret_from:
            headers |= signed(secret(receiver.secret_from), message.key, body, datetime.now(UTC))
        await self._post(receiver, "", body, headers)

    async def _to_slack(self, receiver: Receiver, message: Message) -> None:
        await self._post(receiver, "", msgspec.json.encode(content.slack(message)), {})

    async def _to_alertmanager(self, receiver: Receiver, message: Message) -> None:
        if message.what is What.TEST:
            return await self._post(receiver, "/api/v2/alerts", b"[]", {})
        return await self._refresh(receiver, [message.alert], datetime.now(UTC))

    async def refresh(self, receiver: Receiver, alerts: list[Alert], now: datetime) -> None:
        """Tell Alertmanager that these still are as they are; it forgets what it is not told again.

        Raises:
            NotTaken: it did not take it.
        """
        async with self._in_time():
            await self._refresh(receiver, alerts, now)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise NotTaken(f"no answer within {self._seconds:g} s") from None
        except ModelyardError as error:  # a secret that is not there
            raise NotTaken(str(error)) from None

    async def _refresh(self, receiver: Receiver, alerts: list[Alert], now: datetime) -> None:
        body = msgspec.json.encode([content.alertmanager(alert, now) for alert in alerts])
        await self._post(receiver, "/api/v2/alerts", body, {})

    async def _post(self, receiver: Receiver, path: str, body: bytes, headers: dict[str, str]) -> None:
        url = receiver.url or secret(receiver.url_from)
        if receiver.url_from:
            check_address(url, is_secret=True, told=f"the address in {receiver.url_from}")
        if path and not url.rstrip("/").endswith(path):
            url = url.rstrip("/") + path
        if receiver.token_from:
            headers["Authorization"] = f"Bearer {_for_header(secret(receiver.token_from), receiver.token_from)}"
        headers["Content-Type"] = "application/json"
        with _hiding(), _in_words(origin(url)):
            async with self._http.stream("POST", url, content=body, headers=headers) as answer:
                _check(answer, origin(url))  # its body is not read: it may be endless

    async def _to_mailbox(self, receiver: Receiver, message: Message) -> None:
        password = secret(receiver.password_from) if receiver.password_from else ""
        mail = content.email(message, receiver.sender, receiver.to)
        connection = _Mail(receiver, password)
        work = asyncio.get_running_loop().run_in_executor(None, connection.send, mail)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            connection.abandon()  # so that its thread ends as well
            with suppress(NotTaken):
                await work
            raise


def signed(key: str, identity: str, body: bytes, now: datetime) -> dict[str, str]:
    """The headers by which a receiver knows that a webhook is ours, as the specification of Standard Webhooks says.

    >>> from datetime import UTC, datetime
    >>> signed("whsec_c2VjcmV0", "msg_1", b"{}", datetime(2026, 1, 1, tzinfo=UTC))["webhook-signature"]
    'v1,QGxpGbjRoL8txXelFWC4IEtME42gS+j6BV6K56kn8oo='
    """
    stamp = str(int(now.timestamp()))
    raw = base64.b64decode(key.removeprefix("whsec_")) if key.startswith("whsec_") else key.encode()
    proof = hmac.new(raw, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-timestamp": stamp, "webhook-signature": f"v1,{base64.b64encode(proof).decode()}"}


def _for_header(token: str, place: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise NotTaken(f"the token in {place} has letters that no header can carry")
    return token


def _check(answer: httpx.Response, where: str) -> None:
    status = answer.status_code
    if 200 <= status < 300:
        return
    if status in (408, 425, 429) or status >= 500:
        raise NotTaken(f"{where} answered {status}", after=_retry_after(answer.headers.get("Retry-After", "")))
    told = "and is not followed to another address" if 300 <= status < 400 else "and will most likely do so again"
    raise NotTaken(f"{where} answered {status}, {told}", alone=True)


def _retry_after(said: str) -> float:
    if said.isdigit():
        return float(min(int(said[:9]), 3600))
    try:
        return max(0.0, min((parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds(), 3600.0))
    except (TypeError, ValueError):
        return 0.0


@contextmanager
def _hiding() -> Iterator[None]:
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


@contextmanager
def _in_words(where: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException:
        raise NotTaken(f"{where}: no answer in time") from None
    except httpx.ConnectError as error:
        raise NotTaken(f"{where} cannot be reached: {_reason(error)}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotTaken(f"{where}: {type(error).__name__}") from None


def _reason(error: BaseException) -> str:
    """What the system said below an error of httpx, none of whose words are an address."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError):
            return f"TLS: {found.reason or 'failed'}"
        if isinstance(found, OSError) and found.errno:
            return os.strerror(found.errno) if found.errno > 0 else found.strerror or "no such name"
        found = found.__cause__ or found.__context__
    return "no connection"


def _trusted() -> ssl.SSLContext:
    """The system's certificates (or those of SSL_CERT_FILE), and those that httpx brings."""
    import certifi

    context = ssl.create_default_context()
    if not os.environ.get("SSL_CERT_FILE"):
        context.load_verify_locations(certifi.where())
    return context


class _Mail:
    """One mail over SMTP, in a thread of its own, which can be told to end."""

    def __init__(self, receiver: Receiver, password: str) -> None:
        self._receiver, self._password = receiver, password
        self._server: smtplib.SMTP | None = None
        self._abandoned = False

    def abandon(self) -> None:
        """End whatever is going on."""
        self._abandoned = True
        if self._server is not None and self._server.sock is not None:
            with suppress(OSError):
                self._server.sock.shutdown(2)

    def send(self, mail: EmailMessage) -> None:
        """Send the mail.

        Raises:
            NotTaken: the server did not take it.
        """
        where = f"{self._receiver.host}:{self._receiver.port}"
        try:
            self._send(mail)
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise NotTaken(
                f"{where} takes no mail for these mailboxes ({_codes(codes)})", alone=min(codes) >= 500
            ) from None
        except smtplib.SMTPResponseException as error:
            raise NotTaken(f"{where} answered {error.smtp_code}", alone=error.smtp_code >= 500) from None
        except smtplib.SMTPNotSupportedError:
            raise NotTaken(f"{where} offers no STARTTLS or no login: see --tls") from None
        except smtplib.SMTPException as error:
            raise NotTaken(f"{where}: {type(error).__name__}") from None
        except OSError as error:
            raise NotTaken(f"{where} cannot be reached: {_reason(error)}") from None

    def _send(self, mail: EmailMessage) -> None:
        server = self._opened()
        self._server = server
        if server.sock is not None:
            server.sock.settimeout(SECONDS)  # it may take its time to look at a mail, unlike to answer at all
        try:
            if self._abandoned:
                return
            if self._receiver.tls is Tls.STARTTLS and (self._password or not is_loopback(self._receiver.host)):
                server.starttls(context=_trusted())
            if self._password:
                server.login(self._receiver.user or self._receiver.sender, self._password)
            refused = server.send_message(mail)
            if refused:
                _log.warning("%d of the mailboxes of receiver %s were refused", len(refused), self._receiver.name)
        finally:
            with suppress(smtplib.SMTPException, OSError):
                server.quit()

    def _opened(self) -> smtplib.SMTP:
        receiver = self._receiver
        if receiver.tls is Tls.TLS:
            return smtplib.SMTP_SSL(receiver.host, receiver.port, timeout=CONNECT_SECONDS, context=_trusted())
        return smtplib.SMTP(receiver.host, receiver.port, timeout=CONNECT_SECONDS)


def _codes(codes: list[int]) -> str:
    return ", ".join(map(str, codes))
