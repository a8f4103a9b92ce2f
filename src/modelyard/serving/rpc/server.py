"""The Open Inference Protocol over gRPC: calls for answers go the same way as those over HTTP, as raw bytes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import grpc
import msgspec
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from modelyard.errors import InvalidRequest, ModelyardError, NotOffered, Overloaded, ServiceUnreachable
from modelyard.protocol.media import PROTOBUF, Media
from modelyard.protocol.messages import POOL, SERVICE, UNARY, message
from modelyard.serving import actions
from modelyard.serving.actions import Services
from modelyard.serving.exchange import Done, Incoming, Ticket
from modelyard.serving.http import Reply, error_reply
from modelyard.serving.routes import Target

_log = logging.getLogger("modelyard.serving")

_REQUEST = message("ModelInferRequest")
_HEALTH = "grpc.health.v1.Health"

MOST_STREAMS = 1024
"""Calls that one connection may have open at once."""

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
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
    """Takes calls for answers in, as the data plane does."""

    def submit(self, incoming: Incoming, done: Done) -> Ticket:
        """Take a call in; `done` is called once with its reply, maybe before this returns."""
        ...


def code_of(status: int) -> grpc.StatusCode:
    """The gRPC status that says the same as an HTTP status.

    >>> code_of(404).name, code_of(500).name
    ('NOT_FOUND', 'INTERNAL')
    """
    return _CODES.get(status, grpc.StatusCode.INTERNAL)


@dataclass(slots=True, eq=False)
class Entrance:
    """Answers the methods of the service. `next_id` gives prediction ids."""

    services: Services
    answering: Answers
    next_id: Callable[[], str]

    async def infer(self, body: bytes, context: Any) -> Any:
        """Answer one call; the bytes stay as they came, so that they can be kept."""
        prediction_id = self.next_id()
        replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(reply: Reply) -> None:
            if not replied.done():
                replied.set_result(reply)

        try:
            incoming = self._incoming(prediction_id, body, context)
        except ModelyardError as error:
            return await _refuse(context, error_reply(error), prediction_id)
        ticket = self.answering.submit(incoming, done)
        try:
            reply = await replied
        except asyncio.CancelledError:
            ticket.cancel()
            raise
        if reply.status != 200:
            return await _refuse(context, reply, prediction_id)
        context.set_trailing_metadata((("x-prediction-id", prediction_id),))
        return reply.body

    def _incoming(self, prediction_id: str, body: bytes, context: Any) -> Incoming:
        now, left = time.perf_counter_ns(), context.time_remaining()
        try:
            asked = _REQUEST.FromString(body)
        except DecodeError:
            raise InvalidRequest("the body is not a ModelInferRequest message") from None
        trace = next((str(value) for key, value in context.invocation_metadata() or () if key == "traceparent"), None)
        return Incoming(
            prediction_id,
            "grpc",
            asked.model_name or None,
            asked.model_version or None,
            body,
            time.time_ns(),
            now,
            Media(content_type=PROTOBUF),
            None if left is None else now + int(left * 1e9),
            trace,
        )

    async def act(self, name: str, asked: Any, context: Any) -> Any:
        """Answer a method that an action of the HTTP entrance answers too."""
        try:
            reply = _ACTIONS[name](self.services, asked)
        except ModelyardError as error:
            reply = error_reply(error)
        except Exception as error:  # noqa: BLE001 - the client is owed an answer, the log has the rest
            _log.exception("%s", name)
            reply = error_reply(error)
        document = msgspec.json.decode(reply.body)
        if reply.status != 200 and "ready" not in document:
            return await _refuse(context, reply)
        answer = message(f"{name}Response")
        if name == "RepositoryIndex":
            return answer(models=document)
        known = answer.DESCRIPTOR.fields_by_name
        return answer(**{key: value for key, value in document.items() if key in known})

    async def check(self, asked: Any, context: Any) -> Any:
        """Answer a health check: of the server as a whole, or of one deployment by its name."""
        if asked.service in ("", SERVICE):
            ready = self.services.plane.readiness().ready
        elif asked.service in self.services.plane.names():
            ready = actions.model_ready(self.services, Target("model ready", (), asked.service), b"").status == 200
        else:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no deployment {asked.service[:128]!r}")
            return None
        status = health_pb2.HealthCheckResponse.ServingStatus
        return health_pb2.HealthCheckResponse(status=status.SERVING if ready else status.NOT_SERVING)


async def start(
    services: Services, answering: Answers, address: str, *, max_body: int, next_id: Callable[[], str]
) -> tuple[Any, int]:
    """Listen on ``host:port`` on the running loop and say on which port; `stop(grace)` of the server drains it.

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
    health = grpc.unary_unary_rpc_method_handler(
        entrance.check,
        request_deserializer=health_pb2.HealthCheckRequest.FromString,
        response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, handlers),
            grpc.method_handlers_generic_handler(_HEALTH, {"Check": health}),
        )
    )
    reflection.enable_server_reflection((SERVICE,), server, pool=POOL)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise ServiceUnreachable(f"cannot listen on {address} for gRPC; is the address taken?") from None
    await server.start()
    return server, port


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
    if isinstance(reply.error, Overloaded):
        metadata.append(("retry-after", str(max(1, ceil(reply.error.retry_after)))))
    text = msgspec.json.decode(reply.body).get("error", "")
    await context.abort(code_of(reply.status), text, tuple(metadata))


def _not_offered(services: Services, asked: Any) -> Reply:
    raise NotOffered(f"this extension is not offered here; there are: {', '.join(actions.EXTENSIONS)}")


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
    "RepositoryIndex": lambda services, asked: actions.repository_index(
        services, Target("repository index", ()), msgspec.json.encode({"ready": asked.ready})
    ),
}
