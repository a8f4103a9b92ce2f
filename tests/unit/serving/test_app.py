"""The application over HTTP, without a socket."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import compiled_bundles
from modelyard.domain.desired import Deployment
from modelyard.domain.frame import Answers, Frame
from modelyard.errors import ModelFailed, ParityFailed, RecordNotKept, RowsRefused
from modelyard.protocol import oip, rows
from modelyard.serving.actions import EXTENSIONS
from modelyard.serving.app import Application
from modelyard.serving.plane import DataPlane
from modelyard.serving.served import ServedVersion
from unit.serving.parts import (
    PATIENCE,
    Kept,
    application,
    ask,
    connected,
    deployment,
    desired,
    get,
    post,
    run,
    served,
    written,
)

SCHEMA = compiled_bundles.schema()
FRAME = compiled_bundles.frame(2)
ROW = {"x0": None, "x1": 0.5, "x2": -1, "carrier": "UA"}


@dataclass
class Raising:
    """A runtime that always raises."""

    error: Exception

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        raise self.error

    def close(self) -> None:
        """Nothing to give back."""


BROKEN = {"refusing": RowsRefused("Input contains NaN"), "failing": ModelFailed("it broke"), "wrong": KeyError("bug")}


def open_version(wanted: Deployment) -> ServedVersion:
    if wanted.name == "unproven":
        raise ParityFailed("3 answers differ")
    error = BROKEN.get(wanted.name)
    return served(wanted, None if error is None else Raising(error))


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def plane() -> Iterator[DataPlane]:
    plane = DataPlane(open_version)
    plane.apply(desired(1, deployment("live", 3)))
    assert plane.settle(PATIENCE)
    yield plane
    plane.close()


@pytest.fixture
def app(plane: DataPlane, kept: Kept) -> Application:
    return application(plane, kept, max_body=100_000)


def test_every_form_gives_the_same_numbers(app: Application) -> None:
    expected = served(deployment("live", 3)).runtime.predict(FRAME)["predict_proba"]
    protocol = post(app, "/v2/models/live/infer", raw=oip.write_request(FRAME, SCHEMA))
    plain = post(app, "/predict/live/versions/3", raw=rows.write_request(FRAME, SCHEMA))
    assert oip.read_response(protocol.body, SCHEMA).answers["predict_proba"].tolist() == expected.tolist()
    assert rows.read_response(plain.body, SCHEMA)["predict_proba"].tolist() == expected.tolist()
    labels = post(app, "/invocations", {"dataframe_records": [ROW]}).json
    assert labels["predictions"] == [post(app, "/predict/live", {"rows": [ROW]}).json["rows"][0]["predict"]]


def test_long_tables_are_answered_like_short_ones(plane: DataPlane) -> None:
    app = application(plane)
    answers = post(app, "/predict/live", {"rows": [ROW] * 10_000}).json["rows"]
    [short] = post(app, "/predict/live", {"rows": [ROW]}).json["rows"]
    assert len(answers) == 10_000
    assert all(answer["predict_proba"] == pytest.approx(short["predict_proba"], rel=1e-15) for answer in answers[::999])
    assert post(app, "/predict/live", {"rows": [ROW] * 10_000 + [{}]}).status == 400


def test_outputs_come_in_the_order_that_was_asked_for(app: Application) -> None:
    body = oip.write_request(FRAME, SCHEMA, outputs=["predict_proba", "predict"], id="7")
    document = post(app, "/v2/models/live/versions/3/infer", raw=body).json
    assert [output["name"] for output in document["outputs"]] == ["predict_proba", "predict"]
    assert (document["id"], document["model_name"], document["model_version"]) == ("7", "live", "3")


def test_no_rows_give_no_answers(app: Application) -> None:
    assert post(app, "/predict/live", {"rows": []}).json["rows"] == []
    document = post(app, "/v2/models/live/infer", raw=oip.write_request(FRAME.take([]), SCHEMA)).json
    assert [output["shape"] for output in document["outputs"]] == [[0], [0, 2]]


@pytest.mark.parametrize(
    ("change", "says", "column"),
    [
        ({"x1": None}, "column 'x1', row 0: a value is missing", "x1"),
        ({"x1": "0.5"}, "column 'x1', row 0: expected a number", "x1"),
        ({"x1": 1e31}, "column 'x1', row 0: got 1e+31", "x1"),
        ({"x9": 1}, "row 0: unknown column 'x9'", "x9"),
    ],
)
def test_a_bad_value_is_a_400_that_names_it(app: Application, change: dict[str, Any], says: str, column: str) -> None:
    answer = post(app, "/predict/live", {"rows": [{**ROW, **change}]})
    assert (answer.status, answer.json["code"], answer.json["details"]["column"]) == (400, "InvalidInput", column)
    assert says in answer.error


@pytest.mark.parametrize("path", ["/predict/live", "/v2/models/live/infer", "/invocations/live"])
@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"1", b'{"rows": 1}', b'{"inputs": [1]}', b"\xff", b"[" * 99_999]
)
def test_malformed_bodies_are_a_400(app: Application, path: str, raw: bytes) -> None:
    answer = post(app, path, raw=raw)
    assert (answer.status, bool(answer.error)) == (400, True)


def test_statuses_of_bodies_and_paths(app: Application) -> None:
    assert post(app, "/predict/live", raw=b"x" * 100_001).status == 413
    assert post(app, "/predict/live", raw=b"x", content_encoding="br").status == 415
    table = b"x0,x1,x2,carrier\n,0.5,-1,UA\n"
    assert post(app, "/invocations/live", raw=table, content_type="text/csv; charset=utf-8").json["predictions"] == [
        "late"
    ]
    assert post(app, "/invocations/live", raw=b"a,b", content_type="text/csv").status == 400
    assert (
        post(
            app, "/predict/live", raw=gzip.compress(json.dumps({"rows": [ROW]}).encode()), content_encoding="gzip"
        ).status
        == 200
    )
    assert post(app, "/predict/other", {"rows": []}).status == 404
    assert post(app, "/predict/live/versions/2", {"rows": []}).status == 404
    assert get(app, "/nothing").status == 404
    wrong = get(app, "/predict/live")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert post(app, "/v2/health/live").status == 405


def test_binary_tensors_come_back_as_such(app: Application) -> None:
    tensor = {"name": "x1", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
    document = json.loads(oip.write_request(FRAME.take([0]), SCHEMA))
    document["inputs"] = [tensor if one["name"] == "x1" else one for one in document["inputs"]]
    document["parameters"] = {"binary_data_output": True}
    head = json.dumps(document).encode()
    raw = head + np.float32(0.5).tobytes()
    answer = post(app, "/v2/models/live/infer", raw=raw, inference_header_content_length=str(len(head)))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    length = int(answer.headers["inference-header-content-length"])
    sizes = [one["parameters"]["binary_data_size"] for one in json.loads(answer.body[:length])["outputs"]]
    assert length + sum(sizes) == len(answer.body)
    for wrong in ("-1", "x", str(len(raw) + 1)):
        refused = post(app, "/v2/models/live/infer", raw=raw, inference_header_content_length=wrong)
        assert refused.status == 400


@pytest.mark.parametrize("name", list(BROKEN))
def test_errors_of_the_model_have_their_status_and_are_recorded(
    app: Application, plane: DataPlane, kept: Kept, name: str
) -> None:
    plane.apply(desired(2, deployment(name, 1)))
    assert plane.settle(PATIENCE)
    answer = post(app, f"/predict/{name}", {"rows": [ROW]})
    status, outcome = {"refusing": (422, "refused"), "failing": (500, "failed"), "wrong": (500, "failed")}[name]
    [record] = kept.records
    assert (answer.status, record.status, record.outcome) == (status, status, outcome)
    assert str(BROKEN[name]) in (record.error or "")
    assert record.prediction_id == answer.json["request_id"]
    assert ("bug" in answer.error) is False


def test_calls_are_recorded_as_they_came_and_went(app: Application, kept: Kept) -> None:
    raw = json.dumps({"rows": [ROW], "ids": ["mine"]}).encode()
    answer = post(app, "/predict/live", raw=raw)
    [record] = kept.records
    assert (record.request, record.response, record.status, record.outcome) == (raw, answer.body, 200, "ok")
    assert (record.deployment, record.model, record.version, record.digest) == ("live", "toy", 3, "digest-3")
    assert (record.form, record.rows, record.row_ids) == ("rows", 1, ("mine",))
    assert record.prediction_id == answer.json["prediction_id"]
    assert record.latency_ns > 0


def test_failed_calls_are_recorded_too(app: Application, kept: Kept) -> None:
    post(app, "/predict/other", {"rows": []})
    post(app, "/v2/models/live/infer", raw=b"{")
    first, second = kept.records
    assert (first.deployment, first.version, first.digest, first.outcome, first.status) == (
        "other",
        0,
        "",
        "refused",
        404,
    )
    assert (second.deployment, second.version, second.status, second.request) == ("live", 3, 400, b"{")
    assert second.error == second_error(second.response)


def second_error(body: bytes) -> str:
    return str(json.loads(body)["error"])


def test_prediction_ids_are_all_different(app: Application, kept: Kept) -> None:
    for _ in range(5):
        post(app, "/predict/live", {"rows": [ROW]})
    assert len({record.prediction_id for record in kept.records}) == 5


def test_a_call_that_cannot_be_recorded_is_not_answered(app: Application, kept: Kept) -> None:
    kept.broken = RecordNotKept("the disk is full")
    answer = post(app, "/predict/live", {"rows": [ROW]})
    assert (answer.status, answer.error) == (503, "the disk is full")


def test_a_client_that_leaves_before_its_body_is_complete_costs_nothing(app: Application, kept: Kept) -> None:
    async def leave() -> bytes:
        connection, wire = connected(app)
        connection.data_received(written("POST", "/predict/live", b"x" * 10)[:-5])
        connection.connection_lost(None)
        return bytes(wire.written)

    assert run(leave()) == b""
    assert kept.records == []
    assert app.answering.in_flight == 0


def test_many_calls_at_once_each_get_their_own_answer(app: Application) -> None:
    async def all_at_once() -> list[list[str]]:
        bodies = [{"rows": [ROW], "ids": [str(number)]} for number in range(50)]
        answers = await asyncio.gather(
            *(ask(app, "POST", "/predict/live", json.dumps(body).encode()) for body in bodies)
        )
        return [[row["prediction_id"] for row in answer.json["rows"]] for answer in answers]

    assert run(all_at_once()) == [[str(number)] for number in range(50)]


def test_health_and_readiness(app: Application, plane: DataPlane) -> None:
    assert get(app, "/v2/health/live").json == {"live": True}
    assert (get(app, "/v2/health/ready").status, get(app, "/ping").json) == (200, {"ready": True})
    assert get(app, "/v2/models/live/versions/3/ready").json == {"name": "live", "version": "3", "ready": True}
    assert get(app, "/v2/models/other/ready").status == 404
    assert get(app, "/v2/models/live/versions/9/ready").status == 404
    plane.apply(desired(2, deployment("live", 3), deployment("unproven", 1)))
    assert plane.settle(PATIENCE)
    assert get(app, "/v2/health/ready").json == {"ready": False, "reason": "unproven: 3 answers differ"}
    answer = get(app, "/v2/models/unproven/ready")
    assert (answer.status, answer.json["ready"]) == (503, False)
    assert post(app, "/predict/unproven", {"rows": []}).headers["retry-after"] == "1"
    plane.draining = True
    assert get(app, "/v2/health/ready").json["reason"] == "the server is stopping"
    assert get(app, "/v2/models/live/ready").status == 503


def test_metadata_of_server_and_model(app: Application) -> None:
    assert get(app, "/v2/").json == {
        "name": "modelyard",
        "version": "0.1.0",
        "extensions": list(EXTENSIONS),
    }
    metadata = get(app, "/v2/models/live").json
    assert metadata == get(app, "/v2/models/live/versions/3/").json
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("live", ["3"], "onnx_onnxv1")
    assert oip.schema_of(metadata) == SCHEMA
    assert metadata["properties"]["digest"] == "digest-3"
    assert get(app, "/v2/models").json == {"models": ["live"]}
    assert get(app, "/v2/models/live/versions/4").status == 404


def test_the_repository_index_lists_states_and_reasons(app: Application, plane: DataPlane) -> None:
    plane.apply(desired(2, deployment("live", 3), deployment("unproven", 1)))
    assert plane.settle(PATIENCE)
    entries = [
        {"name": "live", "version": "3", "state": "READY", "reason": ""},
        {"name": "unproven", "version": "1", "state": "UNAVAILABLE", "reason": "3 answers differ"},
    ]
    assert post(app, "/v2/repository/index").json == entries
    assert post(app, "/v2/repository/index", {"ready": True}).json == entries[:1]
    assert post(app, "/v2/repository/index", raw=b"{").status == 400
    for verb in ("load", "unload"):
        refused = post(app, f"/v2/repository/models/live/{verb}", {})
        assert (refused.status, refused.json["code"]) == (403, "PolicyDenied")
        assert "MODELYARD_ADMIN_TOKEN" in refused.error


def test_the_configuration_says_what_the_metadata_say(app: Application) -> None:
    configuration = get(app, "/v2/models/live/config").json
    assert configuration == get(app, "/v2/models/live/versions/3/config").json
    assert (configuration["name"], configuration["backend"]) == ("live", "onnxruntime")
    assert configuration["version_policy"] == {"specific": {"versions": [3]}}
    metadata = get(app, "/v2/models/live").json
    for tensors, configured in (("inputs", "input"), ("outputs", "output")):
        assert [(one["name"], one["shape"]) for one in metadata[tensors]] == [
            (one["name"], [-1, *one["dims"]]) for one in configuration[configured]
        ]
    assert [one["data_type"] for one in configuration["input"]] == ["TYPE_FP64"] * 3 + ["TYPE_STRING"]
    assert get(app, "/v2/models/other/config").status == 404
    assert get(app, "/v2/models/live/versions/4/config").status == 404


def test_the_status_page_shows_everything(app: Application) -> None:
    document = get(app, "/status").json
    assert (document["ready"], document["generation"]) == (True, 1)
    [entry] = document["deployments"]
    assert (entry["name"], entry["model"], entry["version"], entry["state"]) == ("live", "toy", 3, "READY")
    assert get(app, "/status/live").json["deployments"] == [entry]
    assert get(app, "/status/other").status == 404


def test_labels_are_kept(app: Application, kept: Kept) -> None:
    labels = [{"prediction_id": "a-0", "value": "late"}, {"prediction_id": "a-1", "value": None}]
    assert post(app, "/labels", {"labels": labels}).json == {"accepted": 2}
    assert [(label.prediction_id, label.value, label.source) for label in kept.labels] == [
        ("a-0", "late", "http"),
        ("a-1", None, "http"),
    ]
    since = {"known_at": "2013-03-01T06:00:00Z"}
    by_key = [{"key": {"flight": 7.0, "carrier": "UA"}, "value": 1, **since}]
    assert post(app, "/labels", {"deployment": "live", "labels": by_key}).json == {"accepted": 1}
    (found,) = kept.labels[2:]
    assert (found.deployment, found.key, found.prediction_id) == ("live", '{"carrier":"UA","flight":"7"}', "")
    assert found.known_ns == 1362117600_000_000_000


def test_labels_that_cannot_be_kept_are_refused(app: Application, kept: Kept) -> None:
    for bad in (
        {},
        {"labels": [{"prediction_id": ""}]},
        {"labels": [{"prediction_id": "", "value": 1}]},
        {"labels": [{"key": {"flight": 7}, "value": 1}]},
        {"labels": [{"key": {"flight": ""}, "value": 1}], "deployment": "live"},
        {"labels": [{"key": {"flight": None}, "value": 1}], "deployment": "live"},
        {"labels": [{"key": {}, "value": 1}], "deployment": "live"},
        {"labels": [{"key": {"flight": 7}, "prediction_id": "a", "value": 1}], "deployment": "live"},
        {"labels": [{"prediction_id": "a", "value": 1, "known_at": "soon"}]},
        {"labels": [{"prediction_id": "a", "value": [1]}]},
    ):
        assert post(app, "/labels", bad).status == 400
    assert not kept.labels


@pytest.mark.parametrize(
    ("path", "encoding"),
    [
        ("/openapi.json", "zstd"),
        ("/v2/models/live", None),  # what Triton's asyncio client asks for and reads as it comes
        ("/nothing/" + "x" * 5000, None),
    ],
)
def test_only_what_every_client_unpacks_is_compressed(app: Application, path: str, encoding: str | None) -> None:
    answered = run(ask(app, "GET", path, headers={"accept-encoding": "gzip, deflate, zstd"}))
    assert answered.headers.get("content-encoding") == encoding


def test_the_clients_of_the_protocol_get_what_they_know(app: Application) -> None:
    tensors = [{"name": name, "datatype": "FP64", "shape": [99], "data": [0.5] * 99} for name in ("x0", "x1", "x2")]
    tensors.append({"name": "carrier", "datatype": "BYTES", "shape": [99], "data": ["UA"] * 99})
    answered = post(app, "/v2/models/live/infer", {"inputs": tensors}, accept_encoding="gzip, deflate, br, zstd")
    assert answered.headers["content-encoding"] == "gzip"
    answered = post(app, "/predict/live", {"rows": [ROW] * 99}, accept_encoding="gzip, deflate, br, zstd")
    assert answered.headers["content-encoding"] == "zstd"


def test_many_compressed_bodies_at_once_are_all_answered(app: Application) -> None:
    body = gzip.compress(json.dumps({"rows": [ROW]}).encode())
    headers = {"content-encoding": "gzip"}

    async def story() -> list[int]:
        asked = [ask(app, "POST", "/predict/live", body, headers) for _ in range(40)]
        return [answer.status for answer in await asyncio.gather(*asked)]

    assert run(story()) == [200] * 40
