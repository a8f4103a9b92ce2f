"""HTTP as Triton's stock clients speak it: blocking, with futures and with asyncio, against two workers."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import compiled_bundles
from serving_process import PATIENCE, ServingProcess, serving

ROWS = 64
X = {name: np.linspace(-1.0, 1.0, ROWS) + at for at, name in enumerate(("x0", "x1", "x2"))}
CARRIERS = np.resize(np.array(["UA", "AA", "DL"], dtype=object), ROWS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    folder = tmp_path_factory.mktemp("server")
    bundle = compiled_bundles.write_compiled(folder / "bundle")
    named = ("--bundle", bundle.path, "--name", "live", "--model", "toy", "--version", 3)
    with serving(folder, *named, "--workers", 2) as server:
        server.wait_ready()
        yield server


@pytest.fixture(scope="module")
def http() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of gevent, on which the client stands
        from tritonclient import http

    return http


@pytest.fixture
def client(server: ServingProcess, http: Any) -> Iterator[Any]:
    address = server.url.removeprefix("http://")
    with http.InferenceServerClient(address, concurrency=4, network_timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="module")
def expected(server: ServingProcess) -> np.ndarray[Any, Any]:
    """The probabilities that the plain form answers."""
    names = [*X, "carrier"]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*X.values(), CARRIERS.tolist(), strict=True)]
    answered = server.post("/predict/live", {"rows": rows}).json["rows"]
    return np.array([list(row["predict_proba"].values()) for row in answered])


def inputs(http: Any, binary: bool = True, without: str = "", **other: Any) -> list[Any]:
    made = []
    for name, values in ({**X, "carrier": CARRIERS} | other).items():
        kind = "BYTES" if values.dtype == object else "FP64"
        if name != without:
            made.append(http.InferInput(name, list(values.shape), kind).set_data_from_numpy(values, binary_data=binary))
    return made


@pytest.mark.parametrize("sent", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("wanted", [True, False, None], ids=["binary wanted", "JSON wanted", "nothing named"])
@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_every_way_of_sending_gives_the_same_numbers(
    client: Any, http: Any, expected: np.ndarray[Any, Any], sent: bool, wanted: bool | None, packed: str | None
) -> None:
    outputs = None
    if wanted is not None:
        outputs = [http.InferRequestedOutput(name, binary_data=wanted) for name in ("predict_proba", "predict")]
    result = client.infer(
        "live",
        inputs(http, sent),
        "3",
        outputs,
        request_id="7",
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    assert np.array_equal(result.as_numpy("predict_proba"), expected)
    assert set(result.as_numpy("predict").tolist()) <= {b"late", b"on time", "late", "on time"}
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("live", "3", "7")
    asked_for = [("predict_proba"), ("predict")] if outputs else ["predict", "predict_proba"]
    assert [output["name"] for output in response["outputs"]] == asked_for


@pytest.mark.parametrize("binary", [True, False])
def test_the_most_likely_classes_come_as_texts(
    client: Any, http: Any, expected: np.ndarray[Any, Any], binary: bool
) -> None:
    for count, told in ((2, expected.argsort(axis=1)[:, ::-1]), (1, expected.argmax(axis=1)[:, None])):
        wanted = [http.InferRequestedOutput("predict_proba", binary_data=binary, class_count=count)]
        texts = client.infer("live", inputs(http), outputs=wanted).as_numpy("predict_proba")
        assert texts.shape == (ROWS, count)
        for row, places in enumerate(told.tolist()):
            parts = [(text if isinstance(text, str) else text.decode()).split(":") for text in texts[row]]
            assert parts == [[repr(float(expected[row, at])), str(at), ("late", "on time")[at]] for at in places]


def test_calls_with_futures_and_refused_ones_are_all_answered(
    client: Any, http: Any, expected: np.ndarray[Any, Any]
) -> None:
    from tritonclient.utils import InferenceServerException

    asked = [client.async_infer("other" if at % 4 == 3 else "live", inputs(http)) for at in range(24)]
    for at, call in enumerate(asked):
        if at % 4 == 3:
            with pytest.raises(InferenceServerException, match="no deployment 'other'; there are: live"):
                call.get_result(timeout=PATIENCE)
        else:
            assert np.array_equal(call.get_result(timeout=PATIENCE).as_numpy("predict_proba"), expected)


def test_refusals_have_their_status_and_the_words_of_grpc(client: Any, http: Any) -> None:
    from tritonclient.utils import InferenceServerException

    gone = np.full(ROWS, np.nan)
    for call, status, says in (
        (lambda: client.infer("other", inputs(http)), "404", "no deployment 'other'; there are: live"),
        (lambda: client.infer("live", inputs(http), "4"), "404", "'live' has no version 4"),
        (lambda: client.get_model_metadata("other"), "404", "no deployment 'other'"),
        (lambda: client.infer("live", inputs(http, without="x0")), "400", "'x0' is missing"),
        (lambda: client.infer("live", inputs(http, tmp=gone)), "400", "unknown column 'tmp'"),
        (lambda: client.infer("live", inputs(http, x1=gone)), "400", "'x1', row 0: a value is missing"),
        (lambda: client.infer("live", inputs(http, x1=gone[:2])), "400", "it has 2 rows, the tensors before"),
        (lambda: client.get_trace_settings(), "501", "not offered"),
        (lambda: client.get_system_shared_memory_status(), "501", "not offered"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert (caught.value.status(), says in caught.value.message()) == (status, True), caught.value


def test_the_client_for_asyncio(server: ServingProcess, expected: np.ndarray[Any, Any]) -> None:
    from tritonclient.http import aio
    from tritonclient.utils import InferenceServerException

    async def ask() -> None:
        address = server.url.removeprefix("http://")
        async with aio.InferenceServerClient(address, conn_timeout=PATIENCE) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("live", "3")
            assert not await client.is_model_ready("live", "4")
            assert (await client.get_server_metadata())["name"] == "modelyard"
            metadata = await client.get_model_metadata("live")
            assert [tensor["name"] for tensor in metadata["inputs"]] == ["x0", "x1", "x2", "carrier"]
            [entry] = await client.get_model_repository_index()
            assert (entry["name"], entry["state"]) == ("live", "READY")
            packed = [None, "gzip", "deflate"]
            calls = [
                client.infer(
                    "live",
                    inputs(aio, binary=at % 2 == 0),
                    request_compression_algorithm=packed[at % 3],
                    response_compression_algorithm=packed[at // 2 % 3],
                )
                for at in range(18)
            ]
            for result in await asyncio.gather(*calls):
                assert np.array_equal(result.as_numpy("predict_proba"), expected)
            with pytest.raises(InferenceServerException, match="'x0' is missing"):
                await client.infer("live", inputs(aio, without="x0"))

    asyncio.run(ask())


def test_a_deadline_in_a_header_is_kept(client: Any, http: Any, expected: np.ndarray[Any, Any]) -> None:
    from tritonclient.utils import InferenceServerException

    patient = client.infer("live", inputs(http), headers={"X-Request-Timeout-Ms": "60000"})
    assert np.array_equal(patient.as_numpy("predict_proba"), expected)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("live", inputs(http), headers={"X-Request-Timeout-Ms": "0.001"})
    assert caught.value.status() in ("429", "504")
