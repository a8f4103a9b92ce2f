"""HTTP/1.1 over a connected socket: bytes to requests and answers to bytes, with limits on what a client may cost.

The bytes are parsed by httptools. Nothing is awaited: an application is handed each request as soon as its body is
complete, and answers whenever it can. Requests of one connection are answered in the order in which they came. A long
one may be refused by its head alone; its body is then thrown away as it comes, without being looked at.

A client that sends slowly, never reads, or stays silent holds nothing but its socket and what it has sent so far, and
only for a while: `Connections.sweep` looks at all of them now and then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import httptools
import msgspec

from modelyard.serving.exchange import Ticket
from modelyard.serving.http import Reply

_PIPELINED = 8
"""Requests that wait on one connection before no more is read from it."""

_JOINED_BYTES = 64 * 1024
"""Bodies up to this size go out in one piece with their head."""

_LINGER_SECONDS = 0.2
"""How long a connection that was just used, or just made, is kept when the server stops: its next request may be on its
way, and is told with its answer that there will be no other."""

_DISCARD_SECONDS = 2.0
"""How long what a refused client goes on sending is thrown away, so that it gets to read the refusal."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may cost. Sizes in bytes, times in seconds.

    A body has `request_seconds` and one second more for every `slowest` bytes of it to arrive. `unfinished` bounds what
    all clients together have sent of requests that are not complete.
    """

    head: int = 64 * 1024
    headers: int = 200
    body: int = 64 * 1024 * 1024
    long: int = 64 * 1024
    """Bytes of a body from which a request may be refused by its head; a shorter one is read as cheaply."""
    unfinished: int = 512 * 1024 * 1024
    request_seconds: float = 30.0
    slowest: int = 64 * 1024
    idle_seconds: float = 75.0
    """Longer than the pools of usual clients and balancers, so that none sends on a connection just being closed."""
    read_seconds: float = 30.0
    """How long an answer may lie there without the client reading any of it."""


@dataclass(slots=True, eq=False)
class Request:
    """One complete request. `url` is as sent; names of `headers` are in lower case, repeated ones joined by commas."""

    method: str
    url: bytes
    headers: dict[bytes, bytes]
    body: bytes
    received_ns: int
    started_ns: int
    keep_alive: bool
    old: bool = False
    """Whether it came as HTTP/1.0."""


class Handler(Protocol):
    """What answers requests."""

    def handle(self, request: Request, respond: Callable[[Reply], None]) -> Ticket | None:
        """Answer by calling `respond` once, now or later, on the event loop's thread.

        The ticket, if there is one, is cancelled when the client is gone.
        """
        ...

    def turned_away(self, request: Request, size: int) -> Reply | None:
        """Refuse a request of which the head is there alone, and whose body has `size` bytes; None to have it read."""
        ...


@dataclass(slots=True, eq=False)
class Connections:
    """All connections of a process. `draining` says that each is to be closed after the answer it waits for.

    `surplus` is how many are to be closed so at present: clients that ask again come to another process then.
    """

    limits: Limits = field(default_factory=Limits)
    draining: bool = False
    surplus: int = 0
    unfinished: int = 0
    open: set[HttpConnection] = field(default_factory=set)
    date: bytes = b""

    def __post_init__(self) -> None:
        self._tell_time()

    def __len__(self) -> int:
        return len(self.open)

    def drain(self) -> None:
        """Close those that have waited for nothing for a moment, and each of the others after its answer."""
        self.draining = True
        self._close_silent()

    def let_go(self) -> None:
        """Have clients come to another process: now where they are silent, else with the next answer.

        A client that asked a moment ago may be asking again just now, and would find its connection closed.
        """
        self.surplus = len(self.open)
        self._close_silent()

    def _close_silent(self) -> None:
        since = time.monotonic() - _LINGER_SECONDS
        for connection in list(self.open):
            connection.close_if_idle(since)

    def sweep(self) -> None:
        """Close those that are idle, slow or deaf for too long. To be called about every second."""
        self._tell_time()
        now = time.monotonic()
        for connection in list(self.open):
            connection.look(now)

    def busy(self) -> bool:
        """Whether any client waits for an answer or has not got all of it yet."""
        return any(connection.busy for connection in self.open)

    def abort(self) -> None:
        """Close all of them at once, whatever they wait for."""
        for connection in list(self.open):
            connection.abort()

    def _tell_time(self) -> None:
        self.date = f"date: {formatdate(usegmt=True)}\r\n\r\n".encode()


class HttpConnection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_active",
        "_body",
        "_body_size",
        "_connections",
        "_discarding",
        "_done",
        "_ended",
        "_handler",
        "_head_size",
        "_headers",
        "_keep_alive",
        "_parser",
        "_reading",
        "_received_ns",
        "_refusal",
        "_since",
        "_skip",
        "_started_ns",
        "_stuck_since",
        "_ticket",
        "_transport",
        "_turned_away",
        "_url",
        "_waiting",
    )

    def __init__(self, handler: Handler, connections: Connections) -> None:
        self._handler, self._connections = handler, connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._active: Request | None = None
        self._ticket: Ticket | None = None
        self._waiting: deque[Request] = deque()
        self._reading = self._ended = False
        self._turned_away = False  # what is read has its refusal
        self._skip = 0  # bytes of its body that are still to come
        self._discarding = False  # nothing more is read
        self._done = False  # nothing more is written
        self._refusal: Reply | None = None  # goes out after the answers to what came before
        self._since = time.monotonic()
        self._stuck_since: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_size = self._head_size = 0

    # The socket's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody waits for what it asked."""
        self._connections.open.discard(self)
        self._forget_unfinished()
        self._discarding = self._done = True
        self._waiting.clear()
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = self._active = None

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        if self._skip:
            data = self._skipped(data)
        if self._discarding or not data:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Nothing else is spoken here; the request is answered as it is, and what follows it is the next one.
            self._parser = httptools.HttpRequestParser(self)
            if rest := data[upgrade.args[0] :]:
                self.data_received(rest)
        except httptools.HttpParserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is not HTTP/1.1: {error}")
        if self._turned_away:
            self._parser = httptools.HttpRequestParser(self)  # the rest of the body is not for it

    def eof_received(self) -> bool:
        """The client sends no more; answers that it waits for still go out."""
        self._ended = True
        return (self._active is not None or bool(self._waiting)) and not self._done

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        self._stuck_since = time.monotonic()

    def resume_writing(self) -> None:
        """The client has read what there was."""
        self._stuck_since = None
        self._next()

    # The parser's side.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._clear()
        self._reading, self._since = True, time.monotonic()
        self._started_ns, self._received_ns = time.perf_counter_ns(), time.time_ns()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url
        self._head_size += len(url)
        if self._head_size > self._connections.limits.head:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, "the request's target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        headers, limits = self._headers, self._connections.limits
        self._head_size += len(name) + len(value) + 4
        if self._head_size > limits.head or len(headers) >= limits.headers:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the headers are more than {limits.head} bytes or {limits.headers} lines",
            )
            return
        name = name.lower()
        before = headers.get(name)
        headers[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        """The head is complete; a body may follow."""
        length = self._headers.get(b"content-length")
        size = 0 if length is None else int(length)
        if size > self._connections.limits.body:
            self._refuse_body()
        elif size >= self._connections.limits.long and self._is_free() and self._turns_away(size):
            return
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._discarding:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._turned_away:
            self._skip -= len(body)
            return
        if self._discarding:
            return
        connections, size = self._connections, len(body)
        self._body.append(body)
        self._body_size += size
        connections.unfinished += size
        if self._body_size > connections.limits.body:
            self._refuse_body()
        elif connections.unfinished > connections.limits.unfinished:
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, "too many bytes of unfinished requests are held; try again soon")

    def on_message_complete(self) -> None:
        """A request is complete."""
        if self._turned_away:
            self._have_skipped()
            return
        if self._discarding:
            return
        self._reading = False
        self._connections.unfinished -= self._body_size
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body_size = 0
        request = self._request(body)
        if self._is_free():
            self._start(request)
            return
        self._waiting.append(request)
        if len(self._waiting) >= _PIPELINED:
            self._transport.pause_reading()

    def _request(self, body: bytes) -> Request:
        parser = self._parser
        return Request(
            parser.get_method().decode("latin-1"),
            self._url,
            self._headers,
            body,
            self._received_ns,
            self._started_ns,
            parser.should_keep_alive(),
            parser.get_http_version() == "1.0",
        )

    def _is_free(self) -> bool:
        """Whether a request could be answered now, as far as this client is concerned."""
        return self._active is None and not self._waiting and self._stuck_since is None and not self._discarding

    # Refusing by the head alone.

    def _turns_away(self, size: int) -> bool:
        """Refuse the request whose head is there, if the application does; its body is still to come."""
        request = self._request(b"")
        reply = None if b"transfer-encoding" in self._headers else self._handler.turned_away(request, size)
        if reply is None:
            return False
        # Who waits to be told to go on may send the body or not: what comes next could not be told apart.
        if b"expect" in self._headers or not request.keep_alive or self._connections.draining:
            self._reading, self._discarding = False, True
            self._end_with(reply)
        else:
            self._turned_away, self._skip = True, size
            self._write(reply, request, close=False)
        return True

    def _skipped(self, data: bytes) -> bytes:
        """What of `data` is no more of the body that nobody reads."""
        rest = data[self._skip :]
        self._skip -= len(data) - len(rest)
        if not self._skip:
            self._have_skipped()
        return rest

    def _have_skipped(self) -> None:
        """The request that was turned away is over; the next one may come."""
        self._turned_away = self._reading = False
        self._since = time.monotonic()
        self._clear()

    # Answering.

    def _start(self, request: Request) -> None:
        self._active = request
        self._ticket = None
        ticket = self._handler.handle(request, self._respond)
        if self._active is request:  # not answered already
            self._ticket = ticket

    def _respond(self, reply: Reply) -> None:
        request = self._active
        if request is None or self._done:
            return
        self._active = self._ticket = None
        if self._refusal is not None and request.keep_alive and not self._waiting:
            self._write(reply, request, close=False)
            self._end_with(self._refusal)
            return
        close = not request.keep_alive or self._connections.draining or self._is_surplus()
        self._write(reply, request, close)
        if close:
            self._discarding = self._done = True
            self._transport.close()
            return
        self._since = time.monotonic()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        elif self._ended:
            self._transport.close()

    def _is_surplus(self) -> bool:
        """Whether this connection is let go now; not while more has come on it already."""
        connections = self._connections
        if not connections.surplus or self._waiting or self._reading:
            return False
        connections.surplus -= 1
        return True

    def _next(self) -> None:
        """Go on with a request that waits, if the client reads its answers."""
        if not self._waiting or self._active is not None or self._stuck_since is not None or self._done:
            return
        request = self._waiting.popleft()
        if len(self._waiting) == _PIPELINED - 1:
            self._transport.resume_reading()
        self._start(request)

    def _write(self, reply: Reply, request: Request | None, close: bool) -> None:
        body = reply.body
        head = head_of(reply, len(body), close, request is not None and request.old) + self._connections.date
        if request is not None and request.method == "HEAD":
            self._transport.write(head)
        elif len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Answer with an error and take no more from this client."""
        if self._discarding:
            return
        self._forget_unfinished()
        self._reading = False
        document = msgspec.json.encode({"error": reason, "code": "InvalidRequest"})
        headers = ((b"retry-after", b"1"),) if status is HTTPStatus.TOO_MANY_REQUESTS else ()
        self._discarding, self._refusal = True, Reply(status, document, headers)
        if self._active is None and not self._waiting:
            self._end_with(self._refusal)

    def _end_with(self, refusal: Reply) -> None:
        """Send the last answer of this connection; what still comes is thrown away for a while."""
        self._done, self._since = True, time.monotonic()
        self._write(refusal, None, close=True)
        if self._ended:
            self._transport.close()

    def _refuse_body(self) -> None:
        limit = self._connections.limits.body
        reason = f"the body has more than {limit} bytes, which is the most that is taken; send fewer rows a request"
        self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)

    def _forget_unfinished(self) -> None:
        self._connections.unfinished -= self._body_size
        self._clear()

    # Patience.

    def look(self, now: float) -> None:
        """Close the connection if its client has had its time."""
        limits = self._connections.limits
        if self._stuck_since is not None and now - self._stuck_since > limits.read_seconds:
            self._transport.abort()
        elif self._discarding:
            if self._done and now - self._since > _DISCARD_SECONDS:
                self._transport.close()
        elif self._reading:
            if now - self._since <= limits.request_seconds + self._body_size / limits.slowest:
                return
            if self._turned_away:
                self._transport.close()
            else:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")
        elif self._active is None and now - self._since > limits.idle_seconds:
            self._transport.close()

    def close_if_idle(self, since: float) -> None:
        """Close the connection unless a request is on its way, or was after that moment."""
        if self._active is None and not self._waiting and not self._reading and self._since <= since:
            self._transport.close()

    @property
    def busy(self) -> bool:
        """Whether the client waits for an answer or has not got all of it yet."""
        return self._active is not None or bool(self._waiting) or self._transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()


_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def head_of(reply: Reply, length: int, close: bool = False, old: bool = False) -> bytes:
    """Status line and headers of an answer, but for the date and the empty line at the end.

    >>> head_of(Reply(200, b""), 2).splitlines()
    [b'HTTP/1.1 200 OK', b'content-type: application/json', b'content-length: 2']
    """
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (_LINES[reply.status], reply.content_type, length)
    for name, value in reply.headers:
        head += b"%b: %b\r\n" % (name, value)
    if close:
        return head + b"connection: close\r\n"
    return head + b"connection: keep-alive\r\n" if old else head
