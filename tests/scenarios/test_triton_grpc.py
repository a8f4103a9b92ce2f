"""gRPC as Triton's stock client speaks it, against a server with two workers."""

from __future__ import annotations

import asyncio
import functools
import json
import queue
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from typer.testing import CliRunner

import compiled_bundles
from modelyard.cli.app import app
from modelyard.records.log import read
from serving_process import PATIENCE, ServingProcess, serving, until

X = {"x0": [0.25, np.nan, 1.5], "x1": [1.0, 2.0, -3.0], "x2": [0.5, 0.0, 0.125]}
CARRIERS = ["UA", "AA", "DL"]
MAX_BODY = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    folder = tmp_path_factory.mktemp("server")
    bundle = compiled_bundles.write_compiled(folder / "bundle")
    named = ("--bundle", bundle.path, "--name", "live", "--model", "toy", "--version", 3)
    with serving(folder, *named, "--workers", 2, "--grpc-port", 0, "--max-body", MAX_BODY) as server:
        server.wait_ready()
        yield server


@pytest.fixture(scope="module")
def address(server: ServingProcess) -> str:
    return address_of(server)


def address_of(server: ServingProcess) -> str:
    """Where the server answers over gRPC, once it does."""
    announced = json.loads((server.log.parent / "announce.json").read_bytes())
    address = str(announced["grpc"]).rpartition("//")[2]
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(PATIENCE)
    return address


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    from tritonclient import grpc as triton

    with triton.InferenceServerClient(address) as client:
        yield client


def inputs(rows: int = 3, **other: list[float]) -> list[Any]:
    from tritonclient import grpc as triton

    columns = {name: np.resize(np.array(values), rows) for name, values in (X | other).items()}
    made = [triton.InferInput(name, [rows], "FP64").set_data_from_numpy(values) for name, values in columns.items()]
    texts = np.resize(np.array(CARRIERS, dtype=object), rows).reshape(rows, 1)
    return [*made, triton.InferInput("carrier", [rows, 1], "BYTES").set_data_from_numpy(texts)]


@pytest.fixture(scope="module")
def expected(server: ServingProcess) -> np.ndarray[Any, Any]:
    """The probabilities that HTTP answers."""
    asked = [{"name": name, "datatype": "FP64", "shape": [3], "data": values} for name, values in X.items()]
    asked.append({"name": "carrier", "datatype": "BYTES", "shape": [3], "data": CARRIERS})
    text = json.dumps({"inputs": asked}).replace("NaN", "null")
    reply = server.ask("POST", "/v2/models/live/infer", text.encode())
    assert reply.status == 200, reply.body
    [output] = [output for output in reply.json["outputs"] if output["name"] == "predict_proba"]
    return np.array(output["data"]).reshape(output["shape"])


def refusal(ask: Any) -> tuple[str, str]:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException) as caught:
        ask()
    return caught.value.status(), caught.value.message()


def test_health_metadata_and_the_index(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("live")
    assert client.is_model_ready("live", "3")
    assert client.get_server_metadata().name == "modelyard"
    metadata = client.get_model_metadata("live", as_json=True)
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["x0", "x1", "x2", "carrier"]
    [entry] = client.get_model_repository_index().models
    assert (entry.name, entry.version, entry.state) == ("live", "3", "READY")


def test_the_configuration(client: Any, server: ServingProcess) -> None:
    config = client.get_model_config("live", as_json=True)["config"]
    told = server.get("/v2/models/live/config").json
    assert (config["name"], config["platform"], config["backend"]) == ("live", told["platform"], told["backend"])
    assert config["max_batch_size"] == told["max_batch_size"] == MAX_BODY
    assert [(one["name"], one["data_type"]) for one in config["input"]] == [
        *((name, "TYPE_FP64") for name in X),
        ("carrier", "TYPE_STRING"),
    ]
    assert [(one["name"], one["data_type"], one.get("dims")) for one in config["output"]] == [
        ("predict", "TYPE_STRING", None),
        ("predict_proba", "TYPE_FP64", ["2"]),
    ]
    assert config["version_policy"] == {"specific": {"versions": ["3"]}}


def test_the_statistics_are_those_of_http(client: Any, server: ServingProcess) -> None:
    before = client.get_inference_statistics("live", "3").model_stats[0]
    for _ in range(5):
        client.infer("live", inputs(), client_timeout=PATIENCE)
    refusal(lambda: client.infer("live", inputs()[1:]))

    def counted() -> Any:
        [now] = client.get_inference_statistics().model_stats
        return now if now.inference_stats.success.count - before.inference_stats.success.count == 5 else None

    now = until(counted, "all calls are counted")
    assert (now.name, now.version, now.inference_count - before.inference_count) == ("live", "3", 15)
    assert now.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert now.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert now.inference_stats.success.ns >= now.inference_stats.compute_infer.ns
    assert now.last_inference > before.last_inference - 1
    assert 4 in [batch.batch_size for batch in now.batch_stats]  # three rows are in the class of up to four
    [told] = server.get("/v2/models/live/stats").json["model_stats"]
    assert told["inference_count"] == now.inference_count
    assert told["inference_stats"]["compute_infer"] == {
        "count": now.inference_stats.compute_infer.count,
        "ns": now.inference_stats.compute_infer.ns,
    }


def test_answers_are_those_of_http(client: Any, expected: np.ndarray[Any, Any]) -> None:
    from tritonclient import grpc as triton

    result = client.infer("live", inputs(), "3", request_id="7", client_timeout=PATIENCE)
    assert np.array_equal(result.as_numpy("predict_proba"), expected)
    assert result.as_numpy("predict").tolist()[0] == b"late"
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("live", "3", "7")
    wanted = [triton.InferRequestedOutput("predict_proba")]
    for algorithm in (None, "gzip", "deflate"):
        result = client.infer("live", inputs(), outputs=wanted, compression_algorithm=algorithm)
        assert [output.name for output in result.get_response().outputs] == ["predict_proba"]
        assert np.array_equal(result.as_numpy("predict_proba"), expected)


def test_the_most_likely_classes_come_as_texts(client: Any, expected: np.ndarray[Any, Any]) -> None:
    from tritonclient import grpc as triton

    wanted = [triton.InferRequestedOutput("predict_proba", class_count=1), triton.InferRequestedOutput("predict")]
    result = client.infer("live", inputs(), outputs=wanted)
    for row, [text] in enumerate(result.as_numpy("predict_proba").tolist()):
        value, place, name = text.decode().split(":")
        assert float(value) == expected[row].max()
        assert (int(place), name.encode()) == (expected[row].argmax(), result.as_numpy("predict")[row])
    status, says = refusal(
        lambda: client.infer("live", inputs(), outputs=[triton.InferRequestedOutput("predict", class_count=1)])
    )
    assert (status, "no number for each class" in says) == ("StatusCode.INVALID_ARGUMENT", True)


def test_calls_with_callbacks_and_refused_ones_are_all_answered(client: Any, expected: np.ndarray[Any, Any]) -> None:
    answers = queue.Queue[tuple[int, Any, Any]]()

    def told(number: int, result: Any, error: Any) -> None:
        answers.put((number, result, error))

    for number in range(24):
        model = "other" if number % 4 == 3 else "live"
        client.async_infer(model, inputs(), functools.partial(told, number), client_timeout=PATIENCE)
    for number, result, error in sorted((answers.get(timeout=PATIENCE) for _ in range(24)), key=lambda one: one[0]):
        if number % 4 == 3:
            assert error.status() == "StatusCode.NOT_FOUND"
        else:
            assert np.array_equal(result.as_numpy("predict_proba"), expected), error


def test_the_client_for_asyncio(address: str, expected: np.ndarray[Any, Any]) -> None:
    from tritonclient.grpc import aio

    async def ask() -> None:
        async with aio.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            calls = [client.infer("live", inputs(), client_timeout=PATIENCE) for _ in range(16)]
            for result in await asyncio.gather(*calls):
                assert np.array_equal(result.as_numpy("predict_proba"), expected)

    asyncio.run(ask())


def test_the_client_for_asyncio_streams(address: str, expected: np.ndarray[Any, Any]) -> None:
    from tritonclient.grpc import aio

    async def asked() -> AsyncIterator[dict[str, Any]]:
        for number in range(40):
            model = "other" if number % 10 == 9 else "live"
            yield {"model_name": model, "inputs": inputs(), "request_id": str(number)}

    async def ask() -> None:
        async with aio.InferenceServerClient(address) as client:
            told = [one async for one in client.stream_infer(asked(), stream_timeout=PATIENCE)]
        assert sum(error is not None for _, error in told) == 4
        assert all("no deployment 'other'" in error.message() for _, error in told if error is not None)
        results = [result for result, error in told if error is None]
        assert {int(result.get_response().id) for result in results} == {one for one in range(40) if one % 10 != 9}
        assert all(np.array_equal(result.as_numpy("predict_proba"), expected) for result in results)

    asyncio.run(ask())


def test_a_client_that_waits_no_longer_is_told_so(client: Any) -> None:
    """The client's own time-out ends the call, and a later call on the same connection is answered."""
    status, _ = refusal(lambda: client.infer("live", inputs(rows=20_000), client_timeout=1e-6))
    assert status in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.RESOURCE_EXHAUSTED")
    assert client.infer("live", inputs(), client_timeout=PATIENCE).as_numpy("predict") is not None
    assert client.is_server_live(client_timeout=PATIENCE)


def test_refusals_have_their_codes_and_say_why(client: Any) -> None:
    ask = client.infer
    for call, code, says in (
        (lambda: ask("other", inputs()), "NOT_FOUND", "no deployment 'other'; there are: live"),
        (lambda: ask("live", inputs(), "4"), "NOT_FOUND", "'live' has no version 4"),
        (lambda: client.is_model_ready("other"), "NOT_FOUND", "no deployment 'other'"),
        (lambda: client.get_model_metadata("other"), "NOT_FOUND", "no deployment 'other'"),
        (lambda: client.get_model_config("other"), "NOT_FOUND", "no deployment 'other'"),
        (lambda: client.get_inference_statistics("other"), "NOT_FOUND", "no deployment 'other'"),
        (lambda: client.get_inference_statistics("live", "4"), "NOT_FOUND", "'live' has no version 4"),
        (lambda: ask("live", inputs()[1:]), "INVALID_ARGUMENT", "'x0' is missing"),
        (lambda: ask("live", inputs(tmp=[1.0])), "INVALID_ARGUMENT", "unknown column 'tmp'"),
        (lambda: ask("live", inputs(x1=[np.nan])), "INVALID_ARGUMENT", "'x1', row 0: a value is missing"),
        (lambda: ask("live", inputs(rows=20_000), client_timeout=1e-6), "DEADLINE_EXCEEDED RESOURCE_EXHAUSTED", ""),
        (lambda: ask("live", inputs(rows=MAX_BODY // 8)), "RESOURCE_EXHAUSTED", "larger than max"),
        (lambda: client.load_model("live"), "PERMISSION_DENIED", "no admin token"),
        (lambda: client.get_trace_settings(), "UNIMPLEMENTED", "not offered"),
        (lambda: client.get_system_shared_memory_status(), "UNIMPLEMENTED", "not offered"),
    ):
        status, text = refusal(call)
        assert status.removeprefix("StatusCode.") in code.split(), text
        assert says in text


def test_reflection_and_health_are_there(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        described = ProtoReflectionDescriptorDatabase(channel)
        assert "inference.GRPCInferenceService" in described.get_services()
        file = described.FindFileContainingSymbol("inference.GRPCInferenceService")
        assert "ModelInfer" in [method.name for service in file.service for method in service.method]
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService", "live"):
            assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE).status == 1
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="other"), timeout=PATIENCE)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def told_by(client: Any, ask: Any, count: int, **options: Any) -> list[tuple[Any, Any]]:
    """What a stream tells in answer to what `ask` sends: results and errors."""
    answers = queue.Queue[tuple[Any, Any]]()
    client.start_stream(lambda result, error: answers.put((result, error)), **options)
    try:
        ask()
        return [answers.get(timeout=PATIENCE) for _ in range(count)]
    finally:
        client.stop_stream()


def test_a_stream_answers_each_call_under_its_id(client: Any, expected: np.ndarray[Any, Any]) -> None:
    def ask() -> None:
        for number in range(200):
            names = {"model_name": "live", "request_id": str(number)}
            client.async_stream_infer(inputs=inputs(), enable_empty_final_response=number % 2 == 0, **names)

    told = told_by(client, ask, 200)
    assert [error for _, error in told if error is not None] == []
    responses = [result.get_response() for result, _ in told]
    assert sorted(int(response.id) for response in responses) == list(range(200))
    assert all(response.parameters["triton_final_response"].bool_param for response in responses)
    assert len({response.parameters["prediction_id"].string_param for response in responses}) == 200
    assert all(np.array_equal(result.as_numpy("predict_proba"), expected) for result, _ in told)


def test_a_stream_goes_on_after_a_refusal(client: Any, expected: np.ndarray[Any, Any]) -> None:
    def ask() -> None:
        for model, sent in (("other", inputs()), ("live", inputs()[1:]), ("live", inputs())):
            client.async_stream_infer(model, sent)

    told = told_by(client, ask, 3)
    says = sorted(str(error) for _, error in told if error is not None)
    assert ["'x0' is missing" in says[0], "no deployment 'other'" in says[1]] == [True, True]
    [result] = [result for result, error in told if error is None]
    assert np.array_equal(result.as_numpy("predict_proba"), expected)


def test_a_stream_ends_with_a_status_where_that_is_asked_for(client: Any) -> None:
    [(result, error)] = told_by(
        client, lambda: client.async_stream_infer("other", inputs()), 1, headers={"triton_grpc_error": "true"}
    )
    assert (result, error.status()) == (None, "StatusCode.NOT_FOUND")
    assert "no deployment 'other'" in error.message()


def test_streams_and_watches_end_with_the_server(tmp_path: Path) -> None:
    from tritonclient import grpc as triton

    bundle = compiled_bundles.write_compiled(tmp_path / "bundle")
    answers = queue.Queue[tuple[Any, Any]]()
    with serving(
        tmp_path / "server", "--bundle", bundle.path, "--name", "live", "--grpc-port", 0, "--workers", 1
    ) as server:
        server.wait_ready()
        address = address_of(server)
        with triton.InferenceServerClient(address) as client, grpc.insecure_channel(address) as channel:
            watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
            client.start_stream(lambda result, error: answers.put((result, error)))
            client.async_stream_infer("live", inputs())
            assert answers.get(timeout=PATIENCE)[1] is None
            assert server.stop() == 0
            _, error = answers.get(timeout=PATIENCE)
            assert (error.status(), "stopping" in error.message()) == ("StatusCode.UNAVAILABLE", True)
            client.stop_stream()
            assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_both_workers_take_calls(server: ServingProcess, address: str) -> None:
    from tritonclient import grpc as triton

    own_connection = [("grpc.use_local_subchannel_pool", 1)]

    def both() -> bool:
        with triton.InferenceServerClient(address, channel_args=own_connection) as client:
            client.infer("live", inputs())
        return all(worker["calls"] for worker in server.get("/status").json["workers"])

    until(both, "calls at both workers")


def test_calls_are_recorded_and_can_be_asked_for(
    server: ServingProcess, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = client.infer("live", inputs()).get_response().parameters["prediction_id"].string_param
    refusal(lambda: client.infer("live", inputs()[1:]))
    home = server.log.parent / "home"
    records = until(lambda: [one for one in _records(home) if one.prediction_id == prediction], "the record")
    assert [(one.form, one.outcome, one.rows, one.version) for one in records] == [("grpc", "ok", 3, 3)]
    until(lambda: any(one.form == "grpc" and one.outcome == "refused" for one in _records(home)), "the refused one")
    monkeypatch.setenv("MODELYARD_HOME", str(home))
    sql = f"SELECT x1, carrier, predict FROM live WHERE prediction_id LIKE '{prediction}%' ORDER BY x1"
    asked = CliRunner().invoke(app, ["records", "query", sql, "--json"])
    assert asked.exit_code == 0, asked.stderr
    rows = json.loads(asked.stdout)
    assert [(row["x1"], row["carrier"], row["predict"]) for row in rows] == [
        (-3.0, "DL", "on time"),
        (1.0, "UA", "late"),
        (2.0, "AA", "late"),
    ]


def _records(home: Path) -> list[Any]:
    folder = home / "records"
    return list(read(folder)) if folder.exists() else []
