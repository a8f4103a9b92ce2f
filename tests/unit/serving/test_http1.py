"""HTTP/1.1 on one connection: what is answered, in which order, and what a client may cost."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving import http1
from modelyard.serving.exchange import Ticket
from modelyard.serving.http import Reply
from modelyard.serving.http1 import Connections, HttpConnection, Limits, Request
from unit.serving.parts import Wire, connected, run, written


@dataclass
class Echo:
    """Answers with the body at once, or, when told to hold, once it is let go."""

    hold: bool = False
    asked: list[Request] = field(default_factory=list)
    waiting: list[Callable[[Reply], None]] = field(default_factory=list)
    ticket: Ticket = field(default_factory=Ticket)
    full: bool = False

    def turned_away(self, request: Request, size: int) -> Reply | None:
        return Reply(429, b"full") if self.full else None

    def handle(self, request: Request, respond: Callable[[Reply], None]) -> Ticket | None:
        self.asked.append(request)
        if self.hold:
            self.waiting.append(respond)
            return self.ticket
        respond(Reply(200, request.body))
        return None


def exchange(data: list[bytes], connections: Connections | None = None) -> tuple[Wire, Echo]:
    echo = Echo()

    async def talk() -> Wire:
        connection, wire = connected(echo, connections)
        for piece in data:
            connection.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        return wire

    return run(talk()), echo


@given(st.binary(max_size=300), st.lists(st.integers(1, 400), max_size=5))
def test_a_request_may_arrive_in_any_pieces(body: bytes, cuts: list[int]) -> None:
    whole = written("POST", "/x?y=1", body, {"X-Twice": "a"})
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    wire, echo = exchange([whole[a:b] for a, b in itertools.pairwise(edges)])
    [answer], [request] = wire.answers(), echo.asked
    assert (answer.status, answer.body, wire.closed) == (200, body, False)
    assert (request.method, request.url, request.headers[b"x-twice"]) == ("POST", b"/x?y=1", b"a")


def test_pipelined_requests_are_answered_in_order() -> None:
    wire, _ = exchange([b"".join(written("POST", "/", str(number).encode()) for number in range(30))])
    assert [answer.body for answer in wire.answers()] == [str(number).encode() for number in range(30)]
    assert not wire.paused


def test_chunks_continue_and_repeated_headers() -> None:
    head = b"POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\na: 1\r\nA: 2\r\ntransfer-encoding: chunked\r\n\r\n"
    wire, echo = exchange([head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"])
    assert bytes(wire.written).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert (echo.asked[0].body, echo.asked[0].headers[b"a"]) == (b"abcde", b"1, 2")


def test_head_has_the_length_and_no_body() -> None:
    wire, _ = exchange([written("HEAD", "/", b"abc")])
    assert b"content-length: 3" in wire.written
    assert wire.written.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "closed"),
    [
        (b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n", False),
    ],
)
def test_connections_stay_open_unless_one_side_wants_otherwise(request_: bytes, closed: bool) -> None:
    wire, _ = exchange([request_])
    [answer] = wire.answers()
    assert (answer.status, wire.closed, answer.headers.get("connection") == "close") == (200, closed, closed)


LIMITS = Limits(head=1000, headers=10, body=100, unfinished=150)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"GET /" + b"x" * 2000, 414),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 2000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: x\r\n" % n for n in range(20)) + b"\r\n", 431),
        (written("POST", "/", b"x" * 101), 413),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n", 413),
    ],
)
def test_what_is_too_much_or_no_http_is_refused(data: bytes, status: int) -> None:
    connections = Connections(LIMITS)
    wire, echo = exchange([data, b"more of it"], connections)
    [answer] = wire.answers()
    assert (answer.status, answer.headers["connection"], echo.asked) == (status, "close", [])
    assert answer.error
    assert connections.unfinished == 0


def test_unfinished_requests_of_all_clients_together_are_bounded() -> None:
    connections = Connections(LIMITS)
    first, _ = exchange([written("POST", "/", b"x" * 100)[:-10]], connections)
    second, _ = exchange([written("POST", "/", b"x" * 100)[:-10]], connections)
    assert (first.answers(), second.answers()[0].status) == ([], 429)
    assert connections.unfinished == 90


def looked_at(connection: HttpConnection, seconds: float) -> None:
    connection.look(time.monotonic() + seconds)


def test_slow_idle_and_deaf_clients_are_let_go() -> None:
    async def story() -> None:
        echo = Echo(hold=True)
        idle, wire = connected(echo)
        looked_at(idle, 70)
        assert not wire.closed
        looked_at(idle, 80)
        assert wire.closed

        slow, wire = connected(echo)
        slow.data_received(b"POST / HT")
        looked_at(slow, 31)
        assert wire.answers()[0].status == 408
        looked_at(slow, 40)
        assert wire.closed

        patient, wire = connected(echo)
        patient.data_received(written("GET", "/"))
        looked_at(patient, 1000)  # it waits for us, not we for it
        assert not wire.closed

        deaf, wire = connected(echo)
        deaf.pause_writing()
        looked_at(deaf, 31)
        assert wire.closed

    run(story())


def test_a_client_that_does_not_read_gets_no_further_request_answered() -> None:
    async def story() -> tuple[int, int]:
        echo = Echo()
        connection, _ = connected(echo)
        connection.pause_writing()
        connection.data_received(written("GET", "/") * 3)
        before = len(echo.asked)
        connection.resume_writing()
        for _ in range(5):
            await asyncio.sleep(0)
        return before, len(echo.asked)

    assert run(story()) == (0, 3)


def test_a_client_that_leaves_cancels_its_call() -> None:
    async def story() -> Ticket:
        echo = Echo(hold=True)
        connection, wire = connected(echo)
        connection.data_received(written("GET", "/"))
        connection.connection_lost(None)
        echo.waiting[0](Reply(200, b"late"))
        assert not wire.written
        return echo.ticket

    assert run(story()).cancelled


def test_garbage_after_a_request_does_not_cost_its_answer() -> None:
    async def story() -> Any:
        echo = Echo(hold=True)
        connection, wire = connected(echo)
        connection.data_received(written("GET", "/") + b"garbage\r\n\r\n")
        echo.waiting[0](Reply(200, b"{}"))
        return wire

    wire = run(story())
    assert [answer.status for answer in wire.answers()] == [200, 400]


def test_surplus_connections_are_let_go_with_their_next_answer_and_only_so_many() -> None:
    async def story() -> None:
        connections, echo = Connections(surplus=1), Echo()
        first, one = connected(echo, connections)
        second, other = connected(echo, connections)
        first.data_received(written("POST", "/", b"1"))
        second.data_received(written("POST", "/", b"2"))
        assert [one.closed, other.closed] == [True, False]
        assert one.answers()[0].headers["connection"] == "close"
        assert connections.surplus == 0

    run(story())


def test_a_surplus_connection_is_kept_while_more_has_come_on_it() -> None:
    async def story() -> None:
        connections, echo = Connections(surplus=1), Echo(hold=True)
        connection, wire = connected(echo, connections)
        connection.data_received(written("POST", "/", b"1") + written("POST", "/", b"2"))
        echo.waiting[0](Reply(200, b"1"))
        await asyncio.sleep(0)
        assert not wire.closed
        echo.waiting[1](Reply(200, b"2"))
        assert wire.closed
        assert [answer.body for answer in wire.answers()] == [b"1", b"2"]

    run(story())


def test_clients_are_let_go_at_once_where_they_are_silent_and_else_with_their_next_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        connections, echo = Connections(), Echo()
        client, wire = connected(echo, connections)
        connections.let_go()
        assert not wire.closed, "its request may be on the way"
        client.data_received(written("GET", "/"))
        assert (wire.answers()[0].headers["connection"], wire.closed) == ("close", True)
        monkeypatch.setattr(http1, "_LINGER_SECONDS", 0.0)
        _, silent = connected(echo, connections)
        connections.let_go()
        assert silent.closed

    run(story())


def test_draining_closes_idle_connections_and_the_others_after_their_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        connections, echo = Connections(), Echo(hold=True)
        _, idle = connected(echo, connections)
        busy, wire = connected(echo, connections)
        busy.data_received(written("GET", "/"))
        connections.drain()
        # What was just made or used may have its next request on the way.
        assert (idle.closed, wire.closed, connections.busy()) == (False, False, True)
        monkeypatch.setattr(http1, "_LINGER_SECONDS", 0.0)
        connections.drain()
        assert (idle.closed, wire.closed, connections.busy()) == (True, False, True)
        echo.waiting[0](Reply(200, b"{}"))
        assert (wire.answers()[0].headers["connection"], wire.closed) == ("close", True)

    run(story())


def turned_away(pieces: list[bytes], connections: Connections | None = None) -> tuple[list[Any], Wire, Echo]:
    """The answers after each piece, by a server that is too full for long bodies."""
    echo, counts = Echo(full=True), list[Any]()

    async def talk() -> Wire:
        connection, wire = connected(echo, connections)
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
            counts.append([(answer.status, answer.body) for answer in wire.answers()])
        return wire

    return counts, run(talk()), echo


LONG, SHORT = written("POST", "/x", b"{" * 2 * Limits().long), written("POST", "/x", b"short")


@given(st.lists(st.integers(1, 2 * len(LONG) + len(SHORT)), max_size=6))
def test_a_long_body_is_refused_before_it_has_come_and_what_follows_it_is_read(cuts: list[int]) -> None:
    whole = LONG + LONG + SHORT
    edges = sorted({0, len(whole), *cuts})
    counts, wire, echo = turned_away([whole[a:b] for a, b in itertools.pairwise(edges)])
    assert counts[-1] == [(429, b"full"), (429, b"full"), (200, b"short")]
    assert [request.body for request in echo.asked] == [b"short"]
    assert not wire.closed


def test_the_refusal_comes_with_the_head_and_no_byte_of_the_body_is_held() -> None:
    connections, head = Connections(), LONG[: -2 * Limits().long]
    counts, _, echo = turned_away([head[:10], head[10:], b"{" * 100], connections)
    assert counts == [[], [(429, b"full")], [(429, b"full")]]
    assert connections.unfinished == 0 == len(echo.asked)


def test_who_is_turned_away_and_waits_to_go_on_is_let_go() -> None:
    body = b"{" * 2 * Limits().long
    head = written("POST", "/x", body, {"expect": "100-continue"})[: -len(body)]
    counts, wire, echo = turned_away([head, SHORT])
    assert counts == [[(429, b"full")]] * 2
    assert not echo.asked
    assert b"100 Continue" not in wire.written
    assert wire.answers()[0].headers["connection"] == "close"


def test_who_is_turned_away_and_sends_no_more_is_closed() -> None:
    connections = Connections(Limits(request_seconds=-1.0))  # it is late from the first moment
    _, wire, _ = turned_away([LONG[:-10]], connections)
    connections.sweep()
    assert wire.closed
    assert len(wire.answers()) == 1


def test_a_long_body_behind_a_call_that_waits_is_read() -> None:
    echo = Echo(hold=True)

    async def talk() -> Wire:
        connection, wire = connected(echo)
        connection.data_received(SHORT)
        echo.full = True
        connection.data_received(LONG)
        echo.waiting[0](Reply(200, b"first"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return wire

    wire = run(talk())
    assert [answer.status for answer in wire.answers()] == [200]
    assert len(echo.asked) == 2
