"""The loop of a model's process: read a message, answer it, until the server hangs up."""

from __future__ import annotations

import faulthandler
import gc
import io
import json
import os
import platform
import select
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from . import answers, load, tables, wire


def main(descriptor: int) -> None:
    """Serve on the inherited socket `descriptor`; returns when the other side is gone."""
    os.dup2(2, 1)  # what a model prints goes with its complaints, never into an answer
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the server, which hangs up when done
    connection = socket.socket(fileno=descriptor)
    threading.Thread(target=_end_with, args=(descriptor,), daemon=True).start()
    stream = Stream(connection)
    try:
        _serve(stream)
    except (EOFError, ConnectionError):
        return


def _end_with(descriptor: int) -> None:
    """End the process as soon as the server is gone, also in the middle of a computation."""
    watch = select.poll()
    watch.register(descriptor, 0)
    watch.poll()
    os._exit(0)


_AT_ONCE = 1 << 26
"""Bytes for which memory is taken before they have arrived."""


class Stream:
    """Messages over a connected socket. A small one takes a single system call each way."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = memoryview(bytearray(1 << 16))
        self.number = 0
        """The number of the message that was received last."""

    def send(self, message: bytes) -> None:
        """Send a whole message."""
        self._socket.sendall(message)

    def receive(self) -> tuple[int, memoryview]:
        """Wait for a message; kind and body, in memory of its own that may be written to.

        Raises:
            EOFError: the other side hung up.
            wire.Malformed: what came is no message.
        """
        got = self._fill(self._buffer, 0, wire.HEAD.size)
        kind, length = wire.head(self._buffer)
        ready = got - wire.HEAD.size
        if ready > length:
            raise wire.Malformed("more than one message came at once")
        self.number = wire.number_of(self._buffer)
        start = self._buffer[wire.HEAD.size : got]
        if length > _AT_ONCE:
            return kind, self._grown(start, length)
        body = memoryview(bytearray(length))
        body[:ready] = start
        self._fill(body, ready, length)
        return kind, body

    def _grown(self, start: memoryview, length: int) -> memoryview:
        """A long body, in memory that grows with what arrives: a length that is garbage costs nothing."""
        body = bytearray(start)
        while len(body) < length:
            piece = bytearray(min(_AT_ONCE, length - len(body)))
            self._fill(memoryview(piece), 0, len(piece))
            body += piece
        return memoryview(body)

    def _fill(self, view: memoryview, got: int, least: int) -> int:
        while got < least:
            count = self._socket.recv_into(view[got:])
            if count == 0:
                raise EOFError("the other side hung up")
            got += count
        return got


def _serve(stream: Stream) -> None:
    kind, body = stream.receive()
    if kind != wire.OPEN:
        raise wire.Malformed(f"the first message has kind {kind}")
    model = _opened(stream, json.loads(bytes(body)))
    if model is None:
        return
    gc.collect()
    gc.freeze()  # all that is loaded stays: the collector need not look at it again between two answers
    while True:
        kind, body = stream.receive()
        stream.send(wire.numbered(_answer(model, kind, body), stream.number))


def _opened(stream: Stream, order: Mapping[str, Any]) -> Model | None:
    """Load the model and say so; None, after saying why, if it cannot be loaded."""
    try:
        model = Model(order)
    except BaseException as raised:  # noqa: BLE001 - also a model that calls sys.exit while it loads is reported
        reason = {"text": answers.describe(raised), "module": _absent_module(raised)}
        stream.send(wire.message(wire.BROKEN, [json.dumps(reason).encode()]))
        return None
    facts = {"python": platform.python_version(), "pid": os.getpid()}
    stream.send(wire.message(wire.READY, [json.dumps(facts).encode()]))
    return model


def _absent_module(raised: BaseException) -> str | None:
    return raised.name if isinstance(raised, ModuleNotFoundError) else None


class Model:
    """A loaded estimator with the functions that build its input and read its answer."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        schema = order["schema"]
        if order.get("code"):
            load.import_from(order["code"])
        load.stand_in_for_modelyard()
        estimator = load.estimator(order["native"], order["bundle"])
        load.apply(order["native"].get("settings") or {})
        self.inputs = [column["kind"] for column in schema["columns"]]
        self.outputs = [(output["name"], output["kind"]) for output in schema["outputs"]]
        self.build = tables.builder(schema["layout"], schema["columns"])
        self.ask = answers.ask(estimator, schema["outputs"])


def _answer(model: Model, kind: int, body: memoryview) -> bytes:
    if kind != wire.CALL:
        return _text(wire.BROKEN, f"a message of unknown kind {kind}")
    try:
        rows, bits, cells = wire.read_call(model.inputs, body)
        wanted = [output for at, output in enumerate(model.outputs) if bits >> at & 1]
        given = _built(model, cells, rows)
        found = model.ask(given, rows, [name for name, _ in wanted])
        return wire.answers([kind for _, kind in wanted], [found[name] for name, _ in wanted])
    except answers.Refused as refused:
        return _text(wire.REFUSED, str(refused))
    except BaseException as raised:  # noqa: BLE001 - a model that calls sys.exit must not end the process
        known = isinstance(raised, answers.Broken)
        return _text(wire.BROKEN, str(raised) if known else answers.describe(raised))


def _built(model: Model, cells: list[wire.Cells], rows: int) -> Any:
    try:
        return model.build(cells, rows)
    except (ValueError, TypeError, OverflowError) as raised:
        raise answers.Refused(answers.describe(raised)) from raised


def _text(kind: int, text: str) -> bytes:
    return wire.message(kind, [text.encode("utf-8", "replace")])
