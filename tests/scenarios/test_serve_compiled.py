"""A compiled version, served by a real process and called by stock clients, curl-like requests and our own client."""

from __future__ import annotations

import json
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import compiled_bundles
import modelyard as my
from modelyard.bundle.layout import Bundle
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.errors import DeploymentNotFound, InvalidInput, ServiceUnreachable, VersionNotFound
from modelyard.records.log import read, read_labels
from modelyard.runtime.onnx import OnnxRuntime
from serving_process import ControlPlane, ServingProcess, serving, start, until

ROW = {"x0": None, "x1": 0.5, "x2": -1, "carrier": "UA"}
TABLE = pd.DataFrame(
    {"carrier": ["UA", None, "DL"], "x0": [0.25, np.nan, 1.5], "x1": [1.0, 2.0, -3.0], "x2": [0.5, 0.0, 0.125]},
    index=[10, 20, 30],
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return compiled_bundles.write_compiled(tmp_path_factory.mktemp("bundles") / "one")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--bundle", bundle.path, "--name", "live", "--model", "toy", "--version", 3) as server:
        server.wait_ready()
        yield server


def expected() -> np.ndarray[Any, Any]:
    runtime = OnnxRuntime(compiled_bundles.graph(), compiled_bundles.form(), compiled_bundles.schema())
    from modelyard.bundle.tabular import to_frame

    return runtime.predict(to_frame(TABLE, compiled_bundles.schema()))["predict_proba"]


def triton_inputs(http: Any, texts: list[str]) -> list[Any]:
    inputs = []
    for name in ("x0", "x1", "x2"):
        values = TABLE[name].to_numpy()
        inputs.append(http.InferInput(name, [3], "FP64").set_data_from_numpy(values, binary_data=False))
    carriers = np.array(texts, dtype=object).reshape(3, 1)
    inputs.append(http.InferInput("carrier", [3, 1], "BYTES").set_data_from_numpy(carriers, binary_data=False))
    return inputs


@pytest.fixture
def triton(server: ServingProcess) -> Iterator[tuple[Any, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tritonclient import http

        client = http.InferenceServerClient(server.url.removeprefix("http://"))
        yield http, client
        client.close()


def test_the_stock_client_asks_for_health_metadata_and_the_index(triton: tuple[Any, Any]) -> None:
    _, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("live")
    assert client.is_model_ready("live", "3")
    assert not client.is_model_ready("live", "4")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "modelyard"
    metadata = client.get_model_metadata("live", "3")
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["x0", "x1", "x2", "carrier"]
    [entry] = client.get_model_repository_index()
    assert (entry["name"], entry["version"], entry["state"]) == ("live", "3", "READY")


def test_the_stock_client_gets_the_numbers_of_training(triton: tuple[Any, Any]) -> None:
    http, client = triton
    wanted = [http.InferRequestedOutput(name, binary_data=False) for name in ("predict_proba", "predict")]
    for version in ("", "3"):
        result = client.infer(
            "live", triton_inputs(http, ["UA", "AA", "DL"]), version, outputs=wanted, request_id="7", timeout=5000
        )
        assert result.get_response()["id"] == "7"
        assert np.array_equal(result.as_numpy("predict_proba")[[0, 2]], expected()[[0, 2]])
        assert result.as_numpy("predict").tolist()[0] == "late"


def test_the_stock_client_reads_configuration_and_statistics(triton: tuple[Any, Any]) -> None:
    http, client = triton
    config = client.get_model_config("live", "3")
    assert (config["name"], config["max_batch_size"] > 0) == ("live", True)
    assert [(one["name"], one["data_type"]) for one in config["input"]][-1] == ("carrier", "TYPE_STRING")
    assert {"statistics", "model_configuration"} <= set(client.get_server_metadata()["extensions"])

    def answered() -> int:
        [entry] = client.get_inference_statistics("live", "3")["model_stats"]
        return int(entry["inference_stats"]["success"]["count"])

    before = answered()
    client.infer("live", triton_inputs(http, ["UA", "AA", "DL"]))
    # A call of another test that the other worker answered may be told only now.
    until(lambda: answered() > before, "the call is counted")
    assert client.get_inference_statistics()["model_stats"] == client.get_inference_statistics("live")["model_stats"]


def test_the_stock_client_with_default_outputs_still_reads_the_answer(triton: tuple[Any, Any]) -> None:
    http, client = triton
    result = client.infer("live", triton_inputs(http, ["UA", "AA", "DL"]))
    assert np.array_equal(result.as_numpy("predict_proba")[[0, 2]], expected()[[0, 2]])


@pytest.mark.parametrize("path", ["/predict/live", "/v2/models/live/versions/3/infer", "/invocations"])
def test_a_table_may_come_and_go_as_an_arrow_stream(server: ServingProcess, path: str) -> None:
    table = pa.Table.from_pandas(TABLE, preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    body = sink.getvalue().to_pybytes()
    kind = {"content-type": "application/vnd.apache.arrow.stream"}
    reply = server.ask("POST", path, body, kind)
    assert (reply.status, reply.headers["content-type"]) == (200, kind["content-type"])
    answered = pa.ipc.open_stream(reply.body).read_all()
    assert np.array_equal(np.array(answered["predict_proba"].to_pylist()), expected())
    assert json.loads(answered.schema.field("predict_proba").metadata[b"modelyard.classes"]) == ["late", "on time"]
    broken = server.ask("POST", path, body[:-40], kind)
    assert (broken.status, "Arrow" in broken.json["error"]) == (400, True)


def test_the_stock_client_sends_and_gets_binary_data(triton: tuple[Any, Any]) -> None:
    http, client = triton
    plain = triton_inputs(http, ["UA", "AA", "DL"])
    binary = [
        http.InferInput("x0", [3], "FP64").set_data_from_numpy(TABLE["x0"].to_numpy()),
        http.InferInput("carrier", [3], "BYTES").set_data_from_numpy(np.array(["UA", "AA", "DL"], dtype=object)),
    ]
    mixed = [next((one for one in binary if one.name() == tensor.name()), tensor) for tensor in plain]
    expected = client.infer("live", plain).as_numpy("predict_proba")
    for wanted in (None, [http.InferRequestedOutput("predict_proba", binary_data=True)]):
        assert (client.infer("live", mixed, outputs=wanted).as_numpy("predict_proba") == expected).all()


def test_the_stock_client_may_compress_its_requests(triton: tuple[Any, Any]) -> None:
    http, client = triton
    for algorithm in ("gzip", "deflate"):
        result = client.infer("live", triton_inputs(http, ["UA", "AA", "DL"]), request_compression_algorithm=algorithm)
        assert np.array_equal(result.as_numpy("predict_proba")[0], expected()[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tensor": "tmp"}, "unknown column 'tmp'"),
        ({"version": "4"}, "'live' has no version 4; newest: 3"),
        ({"model": "other"}, "no deployment 'other'; there are: live"),
    ],
)
def test_the_stock_client_shows_our_reasons(triton: tuple[Any, Any], change: dict[str, str], says: str) -> None:
    http, client = triton
    inputs = triton_inputs(http, ["UA", "AA", "DL"])
    if "tensor" in change:
        inputs.append(http.InferInput("tmp", [3], "FP64").set_data_from_numpy(np.zeros(3), binary_data=False))
    with pytest.raises(Exception, match=says):
        client.infer(change.get("model", "live"), inputs, change.get("version", ""))


def test_the_plain_form_as_curl_sends_it(server: ServingProcess) -> None:
    body = json.dumps({"rows": [ROW]}).encode()
    reply = server.ask(
        "POST", "/predict/live", body, {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "curl/8"}
    )
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    [row] = reply.json["rows"]
    assert (row["predict"], set(row["predict_proba"])) == ("late", {"late", "on time"})
    assert row["prediction_id"] == reply.json["prediction_id"]


@pytest.mark.parametrize(
    ("rows", "status", "says"),
    [
        ([{**ROW, "tmp": 1}], 400, "unknown column 'tmp'"),
        ([{"x0": 1}], 400, "column 'x1' is missing"),
        ([{**ROW, "x1": "one"}], 400, "column 'x1', row 0: expected a number"),
        ([ROW, {**ROW, "x1": None}], 400, "column 'x1', row 1: a value is missing"),
        ("rows", 400, "Expected `array`"),
    ],
)
def test_bad_rows_are_refused_with_the_reason(server: ServingProcess, rows: Any, status: int, says: str) -> None:
    reply = server.post("/predict/live", {"rows": rows})
    assert reply.status == status
    assert says in reply.json["error"]


@pytest.mark.parametrize(
    "raw",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /predict/live HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict/live HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{",
    ],
)
def test_unreadable_or_huge_requests_get_an_error_in_our_form(server: ServingProcess, raw: bytes) -> None:
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(raw)
        head, _, body = (
            connection.makefile("rb").read(65536).partition(b"\r\n\r\n") if b"9999" not in raw else _reply(connection)
        )
    assert b" 400 " in head.splitlines()[0] or b" 413 " in head.splitlines()[0]
    assert set(json.loads(body)) >= {"error", "code"}


def _reply(connection: socket.socket) -> tuple[bytes, bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(b"}"):
        data += connection.recv(65536)
    return data.partition(b"\r\n\r\n")


def test_the_client_gives_back_what_the_estimator_would(server: ServingProcess) -> None:
    with my.Client(server.url) as client:
        assert client.is_ready()
        probabilities = client.predict_proba("live", TABLE)
        assert np.array_equal(probabilities, expected())
        labels = client.predict("live", TABLE[["x2", "carrier", "x1", "x0"]], version=3)
        assert labels.tolist() == ["late", "late", "on time"]
        assert len(client.last_prediction_ids) == 3
        assert client.answers("live", TABLE.iloc[:0])["predict_proba"].shape == (0, 2)
        long = pd.concat([TABLE] * 2000, ignore_index=True)
        assert np.array_equal(client.predict_proba("live", long), np.tile(expected(), (2000, 1)))
        assert len(set(client.last_prediction_ids)) == 6000


def test_long_tables_go_as_arrow_streams_with_the_numbers_of_json(
    server: ServingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = pd.concat([TABLE] * 1000, ignore_index=True)
    with my.Client(server.url) as client:
        told = client.answers("live", long)
        ids = client.last_prediction_ids
        monkeypatch.setattr("modelyard.client.CELLS_A_REQUEST", 4 * 700)
        assert np.array_equal(client.predict_proba("live", long), told["predict_proba"])
        with pytest.raises(InvalidInput, match=r"row 2001 of the table: column 'x1', row 601: .* missing") as caught:
            client.predict("live", long.assign(x1=[np.nan if row == 2001 else 1.0 for row in range(3000)]))
        assert (caught.value.column, caught.value.row) == ("x1", 2001)
        monkeypatch.setattr("modelyard.client.ARROW_ROWS", 10**9)
        in_json = client.answers("live", long)
    assert list(told) == list(in_json)
    assert all(np.array_equal(told[name], in_json[name]) and told[name].dtype == in_json[name].dtype for name in told)
    home = server.log.parent / "home"
    assert until(
        lambda: [one for one in read(home / "records") if (one.form, one.rows) == ("arrow", 3000)], "the record"
    )
    assert len(set(ids)) == 3000


def test_the_client_raises_the_server_s_errors(server: ServingProcess) -> None:
    with my.Client(server.url) as client:
        with pytest.raises(DeploymentNotFound, match="there are: live"):
            client.predict("other", TABLE)
        with pytest.raises(VersionNotFound, match="newest: 3"):
            client.predict("live", TABLE, version=2)
        with pytest.raises(InvalidInput, match="'x1', row 1: a value is missing") as caught:
            client.predict("live", TABLE.assign(x1=[1.0, np.nan, 2.0]))
        assert (caught.value.column, caught.value.row) == ("x1", 1)
        with pytest.raises(InvalidInput, match="'x1'"):
            client.predict("live", TABLE.drop(columns="x1"))
    with my.Client("http://127.0.0.1:9") as nobody, pytest.raises(ServiceUnreachable, match="no server answers"):
        nobody.predict("live", TABLE)


def test_the_client_follows_a_deployment_to_a_version_that_takes_other_columns(tmp_path: Path) -> None:
    narrow, wide = (compiled_bundles.write_compiled(tmp_path / str(width), width=width) for width in (3, 4))
    control = ControlPlane(_desired(1, narrow, 1))
    control.start()
    try:
        with serving(tmp_path / "server", "--desired", control.url) as server, my.Client(server.url) as client:
            server.wait_ready()
            assert client.predict("live", TABLE).tolist() == ["late", "late", "on time"]
            control.state = _desired(2, wide, 2)
            until(lambda: server.get("/status/live").json["deployments"][0]["version"] == 2, "the wide version")
            with pytest.raises(InvalidInput, match="x3"):
                client.predict("live", TABLE)
            assert client.predict("live", TABLE.assign(x3=-9.0)).tolist() == ["on time"] * 3
            control.state = _desired(3, narrow, 3)
            until(lambda: server.get("/status/live").json["deployments"][0]["version"] == 3, "the narrow one again")
            assert client.predict("live", TABLE).tolist() == ["late", "late", "on time"]
    finally:
        control.stop()


def test_calls_and_labels_are_in_the_log(bundle: Bundle, tmp_path: Path) -> None:
    with serving(tmp_path, "--bundle", bundle.path, "--name", "live", "--records", tmp_path / "records") as server:
        server.wait_ready()
        with my.Client(server.url) as client:
            client.predict("live", TABLE)
            ids = client.last_prediction_ids
            client.label(ids[0], "late")
            assert client.labels([(ids[1], np.str_("on time")), (ids[2], None)]) == 2
            keys = [({"order": np.int64(7)}, "late"), ({"order": 8}, None)]
            assert client.label_by_key("live", keys, known_at=datetime(2013, 3, 1, tzinfo=UTC)) == 2
        server.post("/predict/live", {"rows": [{}]})
        server.post("/invocations", {"dataframe_records": [ROW]})
    # Each worker has a log of its own.
    first, refused, invoked = sorted(read(tmp_path / "records"), key=lambda record: record.received_ns)
    assert [f"{first.prediction_id}-{row}" for row in range(3)] == ids
    assert (first.outcome, first.digest, first.rows) == ("ok", bundle.digest, 3)
    assert (refused.outcome, refused.status, invoked.form) == ("refused", 400, "invocations")
    assert [(label.prediction_id, label.value) for label in read_labels(tmp_path / "records")] == [
        (ids[0], "late"),
        (ids[1], "on time"),
        (ids[2], None),
        ("", "late"),
        ("", None),
    ]


def test_a_bundle_whose_answers_differ_is_never_ready_and_says_why(tmp_path: Path) -> None:
    wrong = compiled_bundles.write_compiled(tmp_path / "wrong", shift=0.01)
    with serving(tmp_path / "server", "--bundle", wrong.path, "--name", "live") as server:
        reason = until(lambda: server.get("/v2/health/ready").json["reason"].partition("differ")[1], "the reason")
        assert reason
        assert server.post("/predict/live", {"rows": [ROW]}).status == 503
        assert server.get("/v2/models/live/ready").status == 503


def test_an_edited_bundle_is_never_ready_and_says_which_file(tmp_path: Path) -> None:
    edited = compiled_bundles.write_compiled(tmp_path / "edited")
    (edited.path / "model" / "model.onnx").write_bytes(compiled_bundles.graph(bias=1.0))
    with serving(tmp_path / "server", "--bundle", edited.path, "--name", "live") as server:
        assert until(lambda: "model/model.onnx" in server.get("/v2/health/ready").json["reason"], "the reason")


def test_a_deployment_follows_the_desired_state_under_load_and_survives_without_it(tmp_path: Path) -> None:
    bundles = [compiled_bundles.write_compiled(tmp_path / f"v{number}", bias=float(number)) for number in range(4)]
    answers = [_late(bundle) for bundle in bundles]
    control = ControlPlane()
    control.start()
    server = start(tmp_path / "server", "--desired", control.url)
    try:
        assert server.get("/v2/health/ready").json["ready"] is False
        control.state = _desired(1, bundles[0], 1)
        server.wait_ready()
        wrong, stop = list[Any](), threading.Event()
        callers = [threading.Thread(target=_call_on, args=(server, answers, wrong, stop)) for _ in range(3)]
        for caller in callers:
            caller.start()
        for number in (1, 2, 3):
            control.state = _desired(number + 1, bundles[number], number + 1)
            until(
                lambda number=number: server.get("/status/live").json["deployments"][0]["version"] == number + 1, "swap"
            )
        (bundles[1].path / "manifest.json").write_bytes(b"{}")
        control.state = _desired(9, bundles[1], 9)
        shown = until(
            lambda: next(
                (one["wanted"] for one in server.get("/status").json["deployments"] if one["wanted"]["reason"]), None
            ),
            "the failure",
        )
        assert shown["version"] == 9
        stop.set()
        for caller in callers:
            caller.join()
        assert wrong == []
        control.state = _desired(10, bundles[3], 4)
        until(lambda: server.get("/status").json["generation"] == 10, "the last state")
        control.stop()
        assert until(lambda: not server.get("/status").json["control"]["reachable"], "the loss of the control plane")
        assert server.post("/predict/live", {"rows": [ROW]}).status == 200
        server.stop(signal.SIGKILL)
        server = start(tmp_path / "server", "--desired", "http://127.0.0.1:9/desired-state")
        server.wait_ready()
        assert server.post("/predict/live", {"rows": [ROW]}).json["version"] == 4
    finally:
        control.stop()
        server.stop()


def _late(bundle: Bundle) -> float:
    runtime = OnnxRuntime(bundle.path / "model/model.onnx", compiled_bundles.form(), bundle.manifest.schema)
    from modelyard.protocol.table import TableReader

    return float(runtime.predict(TableReader(bundle.manifest.schema).records([ROW]))["predict_proba"][0, 0])


def _desired(generation: int, bundle: Bundle, version: int) -> DesiredState:
    return DesiredState(generation, (Deployment("live", "toy", version, bundle.digest, str(bundle.path)),))


def _call_on(server: ServingProcess, answers: list[float], wrong: list[Any], stop: threading.Event) -> None:
    while not stop.is_set():
        reply = server.post("/predict/live", {"rows": [ROW]})
        if reply.status != 200:
            wrong.append((reply.status, reply.body))
            continue
        late = reply.json["rows"][0]["predict_proba"]["late"]
        if late != answers[reply.json["version"] - 1]:
            wrong.append((reply.json["version"], late))


def test_stopping_finishes_the_requests_there_are_and_ends_with_zero(bundle: Bundle, tmp_path: Path) -> None:
    server = start(tmp_path, "--bundle", bundle.path, "--name", "live")
    server.wait_ready()
    big = json.dumps({"rows": [ROW] * 20_000}).encode()
    replies: list[Any] = []
    caller = threading.Thread(target=lambda: replies.append(server.ask("POST", "/predict/live", big)))
    with socket.create_connection(server.address) as half:
        half.sendall(b"POST /predict/live HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        caller.start()
        caller.join()
    assert server.stop() == 0
    assert [reply.status for reply in replies] == [200]


def test_an_address_that_others_can_reach_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="--allow-remote"):
        start(tmp_path, "--bundle", bundle.path, "--name", "live", "--host", "0.0.0.0")
