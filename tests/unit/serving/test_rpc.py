"""The gRPC entrance with its client library, over a real plane and a real compiled model."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from modelyard.errors import ModelyardError, Overloaded
from modelyard.protocol.messages import SERVICE, message
from modelyard.protocol.protobuf import read_request, write_response
from modelyard.protocol.table import Source
from modelyard.serving.actions import Services
from modelyard.serving.exchange import Done, Incoming, Ticket
from modelyard.serving.http import Reply, error_reply
from modelyard.serving.plane import DataPlane
from modelyard.serving.rpc.server import start
from unit.serving.parts import Kept, KeptLabels, deployment, desired, served


class Straight:
    """Answers each call at once, on the spot; `fail` is raised instead, if given."""

    traced = True

    def __init__(self, plane: DataPlane, fail: Exception | None = None) -> None:
        self.plane, self.fail, self.seen = plane, fail, list[Incoming]()

    def submit(self, incoming: Incoming, done: Done) -> Ticket:
        self.seen.append(incoming)
        try:
            done(Reply(200, self._answer(incoming)))
        except ModelyardError as error:
            done(error_reply(error, incoming.prediction_id))
        return Ticket()

    def _answer(self, incoming: Incoming) -> bytes:
        if self.fail is not None:
            raise self.fail
        version = self.plane.lease(incoming.deployment or "", incoming.version)
        try:
            call = read_request(incoming.body, version.reader)
            answers = version.runtime.predict(call.frame, call.outputs)
            source = Source("toy", 1, incoming.prediction_id, call.frame.rows, deployment="live")
            return write_response(answers, version.schema, call, source)
        finally:
            version.leases.give_back()


def run(story: Callable[[Any, Straight], Awaitable[None]], fail: Exception | None = None) -> None:
    plane = DataPlane(served)
    plane.apply(desired(1, deployment()))
    assert plane.settle(20)

    async def play() -> None:
        straight = Straight(plane, fail)
        ids = itertools.count(1)
        server, port = await start(
            Services(plane, KeptLabels(Kept()), "0.1.0"),
            straight,
            "127.0.0.1:0",
            max_body=1 << 20,
            next_id=lambda: f"p{next(ids)}",
        )
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await story(channel, straight)
        finally:
            await server.stop(0)

    try:
        asyncio.run(asyncio.wait_for(play(), 60))
    finally:
        plane.close()


def call(channel: Any, name: str, /, **fields: Any) -> Any:
    method = channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=lambda asked: asked.SerializeToString(),
        response_deserializer=message(f"{name}Response").FromString,
    )
    return method(message(f"{name}Request")(**fields), timeout=30)


def inputs() -> dict[str, Any]:
    columns = [{"name": f"x{i}", "datatype": "FP64", "shape": [1]} for i in range(3)]
    texts = {"name": "carrier", "datatype": "BYTES", "shape": [1]}
    return {"inputs": [*columns, texts], "raw_input_contents": [np.ones(1).tobytes()] * 3 + [b"\x02\0\0\0UA"]}


async def refused(answer: Any) -> tuple[str, str, dict[str, Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return caught.value.code().name, caught.value.details(), dict(caught.value.trailing_metadata())


def test_a_call_is_answered_with_its_id_in_the_metadata() -> None:
    async def story(channel: Any, straight: Straight) -> None:
        asked = call(channel, "ModelInfer", model_name="live", id="7", **inputs())
        answer = await asked
        assert (answer.model_name, answer.id, len(answer.raw_output_contents)) == ("live", "7", len(answer.outputs))
        assert answer.parameters["prediction_id"].string_param == "p1"
        assert dict(await asked.trailing_metadata())["x-prediction-id"] == "p1"
        seen = straight.seen[0]
        assert seen.deadline_ns is not None
        assert 0 < seen.deadline_ns - seen.started_ns <= 31e9

    run(story)


def test_refusals_have_the_code_and_the_words() -> None:
    async def story(channel: Any, straight: Straight) -> None:
        code, text, _ = await refused(call(channel, "ModelInfer", model_name="dead", **inputs()))
        assert (code, "no deployment 'dead'" in text) == ("NOT_FOUND", True)
        code, text, _ = await refused(call(channel, "ModelInfer", model_name="live", model_version="9", **inputs()))
        assert code == "NOT_FOUND"
        code, text, more = await refused(call(channel, "ModelInfer", model_name="live"))
        assert (code, "is missing" in text, more["x-prediction-id"]) == ("INVALID_ARGUMENT", True, "p3")
        for name in ("SystemSharedMemoryStatus", "TraceSetting"):
            assert (await refused(call(channel, name)))[0] == "UNIMPLEMENTED"
        for name in ("RepositoryModelLoad", "RepositoryModelUnload"):
            code, text, _ = await refused(call(channel, name, model_name="live"))
            assert (code, "no admin token" in text) == ("PERMISSION_DENIED", True)

    run(story)


def test_overload_says_when_to_come_back() -> None:
    async def story(channel: Any, straight: Straight) -> None:
        code, text, more = await refused(call(channel, "ModelInfer", model_name="live", **inputs()))
        assert (code, text, more["retry-after"]) == ("RESOURCE_EXHAUSTED", "too much", "3")

    run(story, Overloaded("too much", 2.5))


def test_health_and_metadata_are_those_of_http() -> None:
    async def story(channel: Any, straight: Straight) -> None:
        assert (await call(channel, "ServerLive")).live
        assert (await call(channel, "ServerReady")).ready
        assert (await call(channel, "ModelReady", name="live")).ready
        assert (await refused(call(channel, "ModelReady", name="dead")))[0] == "NOT_FOUND"
        assert (await call(channel, "ServerMetadata")).name == "modelyard"
        metadata = await call(channel, "ModelMetadata", name="live")
        assert "modelyard.schema" in metadata.properties
        assert [tensor.name for tensor in metadata.inputs] == ["x0", "x1", "x2", "carrier"]
        index = await call(channel, "RepositoryIndex")
        assert [(model.name, model.state) for model in index.models] == [("live", "READY")]
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        assert (await check(health_pb2.HealthCheckRequest(service="live"))).status == 1

    run(story)
