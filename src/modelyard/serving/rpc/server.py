"""The Open Inference Protocol over gRPC: calls for answers go the same way as those over HTTP, as raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol

import grpc
import msgspec
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from modelyard.domain.moments import EVENT_TIME, told_event_ns
from modelyard.errors import ModelyardError, NotOffered, Overloaded, ServiceUnreachable, VersionLoading
from modelyard.protocol.media import PROTOBUF, Media
from modelyard.protocol.messages import POOL, SERVICE, UNARY, message
from modelyard.protocol.protobuf import opened_envelope
from modelyard.serving import actions
from modelyard.serving.actions import Services
from modelyard.serving.exchange import Done, Incoming, Ticket
from modelyard.serving.http import Reply, error_reply
from modelyard.serving.onrequest import awake
from modelyard.serving.plane import NotLoaded
from modelyard.serving.routes import Action, Target

_log = logging.getLogger("modelyard.serving")

_REQUEST = message("ModelInferRequest")
_RESPONSE, _STREAMED = message("ModelInferResponse"), message("ModelStreamInferResponse")
_HEALTH = "grpc.health.v1.Health"

FINAL = "triton_final_response"
"""The parameter that says that a request on a stream has no further answer; every request has one."""

_FINAL = _RESPONSE()
_FINAL.parameters[FINAL].bool_param = True
_FINAL_BYTES: bytes = _FINAL.SerializeToString()

MOST_STREAMS = 1024
"""Calls that one connection may have open at once."""

MOST_ON_A_STREAM = 64
"""Calls of one stream that are answered at once; the next is read when one of them has its answer."""

WATCH_SECONDS = 0.25
"""How often it is looked whether a watched health has changed."""

_MEDIA = Media(content_type=PROTOBUF)

LONGEST_WORDS = 2000
"""Characters of a refusal: a status travels as a header, of which clients take 8 KiB."""

STOPPING = "the server is stopping"

KEY = "x-modelyard-key"
"""What the call is about; see `modelyard.serving.exchange.Incoming`."""

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Answers(Protocol):
    """Takes calls for answers in, as the data plane does. `traced` says whether spans are made of them."""

    @property
    def traced(self) -> bool:
        """Whether the caller's trace is of any use."""
        ...

    def submit(self, incoming: Incoming, done: Done) -> Ticket:
        """Take a call in; `done` is called once with its reply, maybe before this returns."""
        ...


def code_of(status: int) -> grpc.StatusCode:
    """The gRPC status that says the same as an HTTP status.

    >>> code_of(404).name, code_of(500).name
    ('NOT_FOUND', 'INTERNAL')
    """
    return _CODES.get(status, grpc.StatusCode.INTERNAL)


class _Refused(Exception):
    """A call on a stream was refused, and the stream is to end with it."""

    def __init__(self, reply: Reply, prediction_id: str) -> None:
        super().__init__(reply.status)
        self.reply, self.prediction_id = reply, prediction_id


def of_a_stream(reply: Reply, request: bytes, prediction_id: str) -> bytes:
    """A ``ModelStreamInferResponse`` with the reply to `request`, its answer's bytes as they are."""
    if reply.status == 200:
        # Messages one after another are one message: the parameter joins those of the answer.
        answer = reply.body + _FINAL_BYTES
        return b"\x12" + _varint(len(answer)) + answer
    refused = _STREAMED(error_message=_words(reply))
    refused.infer_response.parameters["prediction_id"].string_param = prediction_id
    refused.infer_response.parameters[FINAL].bool_param = True
    with contextlib.suppress(DecodeError):
        asked = _REQUEST.FromString(request)
        refused.infer_response.id, refused.infer_response.model_name = asked.id, asked.model_name
    written: bytes = refused.SerializeToString()
    return written


def _varint(number: int) -> bytes:
    r"""A length as protobuf writes it.

    >>> _varint(300)
    b'\xac\x02'
    """
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


@dataclass(slots=True, eq=False)
class Entrance:
    """Answers the methods of the service. `next_id` gives prediction ids. Belongs to one event loop."""

    services: Services
    answering: Answers
    next_id: Callable[[], str]
    _readers: set[asyncio.Task[None]] = field(default_factory=set)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self) -> None:
        """Read no more from streams, which end once what came is answered, and end watches."""
        self._closing.set()
        for reader in self._readers:
            reader.cancel()

    async def infer(self, body: bytes, context: Any) -> Any:
        """Answer one call; the bytes stay as they came, so that they can be kept."""
        prediction_id = self.next_id()
        reply = await self._reply(prediction_id, body, context)
        if reply.status != 200:
            return await _refuse(context, reply, prediction_id)
        context.set_trailing_metadata((("x-prediction-id", prediction_id),))
        return reply.body

    async def stream(self, calls: AsyncIterator[bytes], context: Any) -> None:
        """Answer calls as they come, each when it is done; see `MOST_ON_A_STREAM`."""
        ends = ("triton_grpc_error", "true") in [(key, value) for key, value in context.invocation_metadata() or ()]
        refused: _Refused | None = None
        stopped = self._closing.is_set()
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read_on(calls, context, group, ends))
                self._readers.add(reader)
                reader.add_done_callback(self._readers.discard)
            stopped = reader.cancelled()
        except* _Refused as group_of:
            [refused, *_] = [one for one in group_of.exceptions if isinstance(one, _Refused)]
        if refused is not None:
            await _refuse(context, refused.reply, refused.prediction_id)
        if stopped:
            await context.abort(grpc.StatusCode.UNAVAILABLE, STOPPING)

    async def _read_on(self, calls: AsyncIterator[bytes], context: Any, group: asyncio.TaskGroup, ends: bool) -> None:
        room, turn = asyncio.Semaphore(MOST_ON_A_STREAM), asyncio.Lock()

        async def answer(body: bytes) -> None:
            prediction_id = self.next_id()
            reply = await self._reply(prediction_id, body, context)
            if ends and reply.status != 200:
                raise _Refused(reply, prediction_id)
            async with turn:
                await context.write(of_a_stream(reply, body, prediction_id))
            room.release()

        async for body in calls:
            await room.acquire()
            group.create_task(answer(body))

    async def _reply(self, prediction_id: str, body: bytes, context: Any) -> Reply:
        replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(reply: Reply) -> None:
            if not replied.done():
                replied.set_result(reply)

        try:
            incoming = self._incoming(prediction_id, body, context)
        except ModelyardError as error:
            return error_reply(error)
        ticket = self.answering.submit(incoming, done)
        try:
            return await replied
        except asyncio.CancelledError:
            ticket.cancel()
            raise

    def _incoming(self, prediction_id: str, body: bytes, context: Any) -> Incoming:
        now, left = time.perf_counter_ns(), context.time_remaining()
        asked = opened_envelope(body)
        facts = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        return Incoming(
            prediction_id,
            "grpc",
            asked.model_name or None,
            asked.model_version or None,
            body,
            time.time_ns(),
            now,
            _MEDIA,
            None if left is None else now + int(left * 1e9),
            facts.get("traceparent") if self.answering.traced else None,
            told_event_ns(facts.get(EVENT_TIME)),
            facts.get(KEY, ""),
        )

    async def act(self, name: str, asked: Any, context: Any) -> Any:
        """Answer a method that an action of the HTTP entrance answers too."""
        try:
            reply = await self._acted(name, asked, context)
        except ModelyardError as error:
            reply = error_reply(error)
        except Exception as error:  # noqa: BLE001 - the client is owed an answer, the log has the rest
            _log.exception("%s", name)
            reply = error_reply(error)
        document = msgspec.json.decode(reply.body)
        if reply.status != 200 and "ready" not in document:
            return await _refuse(context, reply)
        answer = message(f"{name}Response")
        if name in _MEMBERS:
            return answer(**{_MEMBERS[name]: document})
        known = answer.DESCRIPTOR.fields_by_name
        return answer(**{key: value for key, value in document.items() if key in known})

    async def _acted(self, name: str, asked: Any, context: Any) -> Reply:
        order = _ORDERS.get(name)
        if order is not None:
            return await self._order(order, asked, context)
        try:
            return _ACTIONS[name](self.services, asked)
        except NotLoaded as error:
            await awake(self.services.plane, error.deployment, context.time_remaining())
            return _ACTIONS[name](self.services, asked)

    async def _order(self, action: Action, asked: Any, context: Any) -> Reply:
        authorization = None
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                authorization = str(value)
        # Which member of a parameter is set does not matter: there is none whose value does.
        parameters = dict.fromkeys(asked.parameters)
        target = Target(action, (), asked.model_name)
        return await actions.order(self.services, target, parameters, authorization, context.time_remaining())

    async def check(self, asked: Any, context: Any) -> Any:
        """Answer a health check: of the server as a whole, or of one deployment by its name."""
        status = self._health(asked.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no deployment {asked.service[:128]!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def watch(self, asked: Any, context: Any) -> None:
        """Tell the health now and whenever it changes, until the server stops."""
        told = None
        while not self._closing.is_set():
            now = self._health(asked.service)
            if now != told:
                told = now
                await context.write(health_pb2.HealthCheckResponse(status=now))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), WATCH_SECONDS)
        if told != health_pb2.HealthCheckResponse.NOT_SERVING:
            await context.write(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING))
        await context.abort(grpc.StatusCode.UNAVAILABLE, STOPPING)

    def _health(self, service: str) -> int:
        status = health_pb2.HealthCheckResponse
        if service in ("", SERVICE):
            ready = self.services.plane.readiness().ready
        elif service in self.services.plane.names():
            ready = actions.model_ready(self.services, Target("model ready", (), service), b"").status == 200
        else:
            return int(status.SERVICE_UNKNOWN)
        return int(status.SERVING if ready else status.NOT_SERVING)


@dataclass(frozen=True, slots=True, eq=False)
class Listening:
    """A server that listens."""

    server: Any
    entrance: Entrance

    async def stop(self, grace: float) -> None:
        """Take no new calls, give those that came `grace` seconds, and end."""
        self.entrance.close()
        await self.server.stop(grace)


async def start(
    services: Services, answering: Answers, address: str, *, max_body: int, next_id: Callable[[], str]
) -> tuple[Listening, int]:
    """Listen on ``host:port`` on the running loop, and say on which port.

    Several processes may listen on the same port. Whether others may call `host` is for the caller to have checked.

    Raises:
        ServiceUnreachable: the address is taken or not this machine's.
    """
    entrance = Entrance(services, answering, next_id)
    options = (
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_body),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", MOST_STREAMS),
    )
    server = grpc.aio.server(options=options)
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(entrance.infer)}
    handlers |= {name: _handler(entrance, name) for name in UNARY if name != "ModelInfer"}
    handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(entrance.stream)
    coding = (health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString)
    health = {
        "Check": grpc.unary_unary_rpc_method_handler(entrance.check, *coding),
        "Watch": grpc.unary_stream_rpc_method_handler(entrance.watch, *coding),
    }
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, handlers),
            grpc.method_handlers_generic_handler(_HEALTH, health),
        )
    )
    reflection.enable_server_reflection((SERVICE,), server, pool=POOL)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise ServiceUnreachable(f"cannot listen on {address} for gRPC; is the address taken?") from None
    await server.start()
    return Listening(server, entrance), port


def _handler(entrance: Entrance, name: str) -> Any:
    async def answer(asked: Any, context: Any) -> Any:
        return await entrance.act(name, asked, context)

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=message(f"{name}Request").FromString,
        response_serializer=lambda answered: answered.SerializeToString(),
    )


async def _refuse(context: Any, reply: Reply, prediction_id: str | None = None) -> Any:
    metadata = [] if prediction_id is None else [("x-prediction-id", prediction_id)]
    if isinstance(reply.error, Overloaded | VersionLoading):
        metadata.append(("retry-after", str(max(1, ceil(reply.error.retry_after)))))
    await context.abort(code_of(reply.status), _words(reply), tuple(metadata))


def _words(reply: Reply) -> str:
    text: str = msgspec.json.decode(reply.body).get("error", "")
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}..."


def _not_offered(services: Services, asked: Any) -> Reply:
    raise NotOffered(f"this extension is not offered here; there are: {', '.join(actions.EXTENSIONS)}")


_ORDERS: dict[str, Action] = {"RepositoryModelLoad": "load", "RepositoryModelUnload": "unload"}

_MEMBERS = {"RepositoryIndex": "models", "ModelConfig": "config"}
"""Methods whose answer has a member for what is the whole document over HTTP."""


def _model(asked: Any) -> tuple[str, str | None]:
    return asked.name, asked.version or None


_ACTIONS: dict[str, Callable[[Services, Any], Reply]] = {
    **dict.fromkeys(UNARY, _not_offered),
    "ServerLive": lambda services, asked: actions.live(services, Target("live", ()), b""),
    "ServerReady": lambda services, asked: actions.ready(services, Target("ready", ()), b""),
    "ModelReady": lambda services, asked: actions.model_ready(services, Target("model ready", (), *_model(asked)), b""),
    "ServerMetadata": lambda services, asked: actions.server_metadata(services, Target("server metadata", ()), b""),
    "ModelMetadata": lambda services, asked: actions.model_metadata(
        services, Target("model metadata", (), *_model(asked)), b""
    ),
    "ModelConfig": lambda services, asked: actions.configuration(
        services, Target("configuration", (), *_model(asked)), b""
    ),
    "ModelStatistics": lambda services, asked: actions.statistics(
        services, Target("statistics", (), asked.name or None, asked.version or None), b""
    ),
    "RepositoryIndex": lambda services, asked: actions.repository_index(
        services, Target("repository index", ()), msgspec.json.encode({"ready": asked.ready})
    ),
}
