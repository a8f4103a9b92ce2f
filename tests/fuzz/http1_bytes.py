"""Bytes on a connection: the same requests are seen however the bytes are cut, and nothing is held afterwards."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

from modelyard.serving.exchange import Ticket
from modelyard.serving.http import Reply
from modelyard.serving.http1 import Connections, HttpConnection, Limits, Request

WORDS = (
    "GET ", "POST ", "HEAD ", "PRI * HTTP/2.0", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "\r\n\r\n",
    "content-length: ", "transfer-encoding: chunked", "expect: 100-continue", "connection: close",
    "connection: upgrade", "upgrade: h2c", "host: h", "\r\n0\r\n\r\n", ";ext=1", "keep-alive", "CONNECT ",
)  # fmt: skip

LIMITS = Limits(head=600, headers=12, body=400, long=8, unfinished=500)


def written(method: str, path: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    return f"{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Echo:
    """Answers at once, and has no room for long bodies where the path says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, bytes]] = []

    def turned_away(self, request: Request, size: int) -> Reply | None:
        """Refuse a request by its head."""
        return Reply(429, b"") if request.url.startswith(b"/full") else None

    def handle(self, request: Request, respond: Callable[[Reply], None]) -> Ticket | None:
        """Answer one request."""
        self.asked.append((request.method, request.url, request.body))
        respond(Reply(200, b""))
        return None


def seeds() -> Iterator[bytes]:
    """Requests, several at once, in chunks, too long, and no requests at all."""
    yield b"\x05" + written("POST", "/v2/models/live/infer", b'{"inputs": []}')
    yield b"\x20" + written("GET", "/", b"") + written("POST", "/x", b"abc") + written("HEAD", "/", b"")
    chunks = (
        b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;a=b\r\nde\r\n0\r\nt: v\r\n\r\n"
    )
    yield b"\x03" + chunks + chunks
    yield b"\x07" + b"POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc"
    yield b"\x01" + b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"
    yield b"\x40" + b"GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n" + written("GET", "/y")
    yield b"\x09" + b"GET /" + b"x" * 700 + b" HTTP/1.1\r\n\r\n"
    yield b"\x0b" + b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\nabc"
    yield b"\x0d" + b"POST / HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nabcd"
    yield b"\x02" + b"".join(written("POST", "/", str(number).encode()) for number in range(20))
    yield b"\x06" + b"".join(written("POST", path, b"0123456789") for path in ("/full", "/", "/full"))
    yield b"\x0f" + b"POST /full HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n012345678"
    yield (
        b"\x08" + b"POST /full HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 9\r\n\r\n012345678GET"
    )
    yield b"\x0e" + b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"


def one(data: bytes) -> None:
    """In one piece, and in pieces of as many bytes as the first byte says."""
    if not data:
        return
    size = data[0] or 1
    whole, cut = _exchange([data[1:]]), _exchange([data[at : at + size] for at in range(1, len(data), size)])
    # Of several things that are wrong, the first to be seen depends on the pieces.
    assert whole == cut, f"{whole}\n{cut}"


class Wire(asyncio.Transport):
    """The other end of the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed, self.paused = b"", False, False

    def write(self, data: Any) -> None:
        """Bytes to the client."""
        self.written += data

    def close(self) -> None:
        """No more of them."""
        self.closed = True

    def pause_reading(self) -> None:
        """The server has enough for now."""
        self.paused = True

    def resume_reading(self) -> None:
        """It takes more."""
        self.paused = False


def _exchange(pieces: list[bytes]) -> tuple[list[tuple[str, bytes, bytes]], list[bool]]:
    """The requests that were seen, and for each answer whether it is a refusal."""
    echo, wire, connections = Echo(), Wire(), Connections(LIMITS)

    async def talk() -> None:
        connection = HttpConnection(echo, connections)
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
            if wire.paused:
                await _quiet(echo)
        await _quiet(echo)
        if not wire.closed:
            connection.eof_received()
        connection.connection_lost(None)

    _LOOP.run(talk())
    assert connections.unfinished == 0
    assert len(connections) == 0
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", wire.written)]
    assert all(status < 500 for status in statuses), statuses
    return echo.asked, [status >= 400 for status in statuses]


async def _quiet(echo: Echo) -> None:
    """Let the server go on until it has answered everything."""
    seen = -1
    while seen != len(echo.asked):
        seen = len(echo.asked)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


_LOOP = asyncio.Runner()
