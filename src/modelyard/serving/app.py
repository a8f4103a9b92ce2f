"""The application: HTTP in, HTTP out, nothing between it and the server but the ASGI calls.

A call for answers goes: read the body, decode to columns, check, compute, encode, record, answer. The record is kept
before the answer is sent, failures included, so that whatever a client saw is in the log.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from modelyard.domain.frame import Answers
from modelyard.domain.records import PredictionRecord, WireForm
from modelyard.errors import ModelyardError, NotOffered, UnknownEncoding
from modelyard.protocol import invocations, oip, rows
from modelyard.protocol.table import Call, Source, TableReader
from modelyard.records.interface import RecordSink
from modelyard.serving.actions import ACTIONS, Services
from modelyard.serving.http import (
    BodyFacts,
    Disconnected,
    Receive,
    Reply,
    Scope,
    Send,
    UnknownPath,
    WrongVerb,
    body_facts,
    error_reply,
    outcome_of,
    read_body,
    send_reply,
)
from modelyard.serving.routes import Target, find
from modelyard.serving.served import ServedVersion

MAX_BODY_BYTES = 64 * 1024 * 1024
LONG_BODY_BYTES, LONG_ROWS = 256 * 1024, 2000
"""Bodies from here on are read and answers written in a thread, so that others are not kept waiting."""

_REMEMBERED_PATHS = 1024

_log = logging.getLogger("modelyard.serving")

_READ: dict[str, Callable[[bytes, TableReader], Call]] = {
    "oip": oip.read_request,
    "rows": rows.read_request,
    "invocations": invocations.read_request,
}


def prediction_ids() -> Callable[[], str]:
    """A source of prediction ids that no other process, past or future, gives out too."""
    prefix, count = os.urandom(9).hex(), itertools.count()
    return lambda: f"{prefix}{next(count):06x}"


@dataclass(slots=True)
class _Exchange:
    """One call for answers, as far as it has come."""

    prediction_id: str
    form: WireForm
    target: Target
    received_ns: int
    started_ns: int
    request: bytes = b""
    call: Call | None = None
    served: ServedVersion | None = None
    error: str | None = None


@dataclass(slots=True, eq=False)
class Application:
    """Serves one data plane over HTTP (ASGI 3) and keeps a record of every call for answers."""

    services: Services
    records: RecordSink
    max_body: int = MAX_BODY_BYTES
    next_id: Callable[[], str] = field(default_factory=prediction_ids)
    _targets: dict[str, Target] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        try:
            reply = await self._reply(scope, receive)
        except Disconnected:
            return
        except ModelyardError as error:
            reply = error_reply(error)
        except Exception as error:  # noqa: BLE001 - the client is owed an answer, the log has the rest
            _log.exception("%s %s", scope["method"], scope["path"])
            reply = error_reply(error)
        await send_reply(send, reply)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        path = scope["path"]
        target = self._targets.get(path) or self._find(path)
        if scope["method"] not in target.verbs:
            raise WrongVerb(scope["method"], path, ", ".join(target.verbs))
        facts = body_facts(scope["headers"])
        if target.action in _READ:
            return await self._predict(target, facts, receive)
        body = await read_body(receive, facts, self.max_body) if scope["method"] == "POST" else b""
        return ACTIONS[target.action](self.services, target, body)

    def _find(self, path: str) -> Target:
        target = find(path)
        if target is None:
            raise UnknownPath(f"there is nothing at {path[:200]}; see /status, /v2 or /predict/DEPLOYMENT")
        if len(self._targets) >= _REMEMBERED_PATHS:
            self._targets.clear()
        self._targets[path] = target
        return target

    async def _predict(self, target: Target, facts: BodyFacts, receive: Receive) -> Reply:
        form: WireForm = target.action  # type: ignore[assignment]
        exchange = _Exchange(self.next_id(), form, target, time.time_ns(), time.perf_counter_ns())
        try:
            reply = Reply(200, await self._answer(exchange, facts, receive))
        except ModelyardError as error:
            exchange.error = str(error)
            reply = error_reply(error, exchange.prediction_id)
        except Disconnected:
            raise
        except Exception as error:  # noqa: BLE001 - a call that failed is recorded like any other
            _log.exception("%s: call %s", target.deployment, exchange.prediction_id)
            exchange.error = f"{type(error).__name__}: {error}"
            reply = error_reply(error, exchange.prediction_id)
        finally:
            if exchange.served is not None:
                exchange.served.leases.give_back()
        self.records.append(_record(exchange, reply))
        return reply

    async def _answer(self, exchange: _Exchange, facts: BodyFacts, receive: Receive) -> bytes:
        exchange.request = await read_body(receive, facts, self.max_body)
        target = exchange.target
        served = exchange.served = self.services.plane.lease(
            target.deployment or self._only_deployment(), target.version
        )
        if facts.binary:
            raise NotOffered(
                "binary tensors are not offered here; with tritonclient: set_data_from_numpy(x, binary_data=False)"
            )
        if facts.media_type == "text/csv":
            raise UnknownEncoding("text/csv is not understood here; send JSON")
        read = _READ[exchange.form]
        if len(exchange.request) < LONG_BODY_BYTES:
            call = exchange.call = read(exchange.request, served.reader)
        else:
            call = exchange.call = await served.aside(read, exchange.request, served.reader)
        answers = await served.answer(call.frame, call.outputs)
        ordered = answers if call.outputs is None else {name: answers[name] for name in call.outputs}
        if call.frame.rows < LONG_ROWS:
            return _write(exchange, call, served, ordered)
        return await served.aside(_write, exchange, call, served, ordered)

    def _only_deployment(self) -> str:
        names = self.services.plane.names()
        if len(names) != 1:
            there = f"there are: {', '.join(names)}" if names else "nothing is deployed"
            raise UnknownPath(f"/invocations without a deployment needs exactly one; {there}")
        return names[0]


def _write(exchange: _Exchange, call: Call, served: ServedVersion, answers: Answers) -> bytes:
    deployment, schema = served.deployment, served.schema
    if exchange.form == "oip":
        return oip.write_response(
            answers,
            schema,
            name=deployment.name,
            version=str(deployment.version),
            prediction_id=exchange.prediction_id,
            id=call.id,
            words=call.words,
        )
    source = Source(deployment.model, deployment.version, exchange.prediction_id, call.frame.rows, call.row_ids)
    if exchange.form == "rows":
        return rows.write_response(answers, schema, source)
    return invocations.write_response(answers, schema, source)


def _record(exchange: _Exchange, reply: Reply) -> PredictionRecord:
    served, call = exchange.served, exchange.call
    deployment = None if served is None else served.deployment
    return PredictionRecord(
        exchange.prediction_id,
        exchange.target.deployment or (deployment.name if deployment else ""),
        deployment.model if deployment else "",
        deployment.version if deployment else 0,
        served.digest if served else "",
        exchange.received_ns,
        time.perf_counter_ns() - exchange.started_ns,
        reply.status,
        outcome_of(reply.status),
        exchange.form,
        call.frame.rows if call else 0,
        exchange.request,
        reply.body,
        exchange.error,
        call.row_ids if call else (),
    )
