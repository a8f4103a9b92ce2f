"""An operator unloads and loads versions with Triton's stock clients, over HTTP and gRPC, against two workers."""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.desired import Deployment, DesiredState
from serving_process import PATIENCE, ControlPlane, ServingProcess, serving, until
from small_bundles import write_line

TOKEN = "correct-horse-battery"
RIGHT, WRONG = {"authorization": f"Bearer {TOKEN}"}, {"authorization": "Bearer another-horse-battery"}


@pytest.fixture(scope="module")
def control() -> Iterator[ControlPlane]:
    made = ControlPlane()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Deployment]:
    folder = tmp_path_factory.mktemp("lines")
    made = {at: write_line(folder / str(at), slope=float(at)) for at in (2, 3, 4)}
    return {at: Deployment("live", "line", at, one.digest, str(one.path)) for at, one in made.items()}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, control: ControlPlane, lines: dict[int, Deployment]
) -> Iterator[ServingProcess]:
    folder = tmp_path_factory.mktemp("server")
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    other = write_line(folder / "other", slope=7.0)
    control.state = DesiredState(1, (lines[2], Deployment("other", "line", 7, other.digest, str(other.path))))
    options = ("--desired", control.url, "--workers", 2, "--grpc-port", 0, "--admin-token-file", token)
    with serving(folder, *options) as server:
        server.wait_ready()
        yield server


class OverHttp:
    """The stock client over HTTP."""

    unauthenticated, denied, unknown = "401", "403", "404"

    def __init__(self, server: ServingProcess) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of gevent, on which the client stands
            from tritonclient import http

        self.client = http.InferenceServerClient(server.url.removeprefix("http://"), network_timeout=PATIENCE)

    def index(self) -> list[dict[str, str]]:
        return list(self.client.get_model_repository_index())


class OverGrpc:
    """The stock client over gRPC."""

    unauthenticated, denied = "StatusCode.UNAUTHENTICATED", "StatusCode.PERMISSION_DENIED"
    unknown = "StatusCode.NOT_FOUND"

    def __init__(self, server: ServingProcess) -> None:
        from tritonclient import grpc

        announced = json.loads((server.log.parent / "announce.json").read_bytes())
        self.client = grpc.InferenceServerClient(announced["grpc"].rpartition("//")[2])

    def index(self) -> list[dict[str, str]]:
        models = self.client.get_model_repository_index().models
        return [{key: getattr(one, key) for key in ("name", "version", "state", "reason")} for one in models]


@pytest.fixture(params=[OverHttp, OverGrpc], ids=["HTTP", "gRPC"])
def stock(request: pytest.FixtureRequest, server: ServingProcess) -> Iterator[Any]:
    made = request.param(server)
    yield made
    made.client.close()


def answers(server: ServingProcess, name: str = "live") -> float | int:
    """What the model answers to 1, or the status of the refusal."""
    reply = server.post(f"/predict/{name}", {"rows": [{"x": 1.0}]})
    return float(reply.json["rows"][0]["predict"]) if reply.status == 200 else reply.status


def workers(server: ServingProcess) -> list[int]:
    return [worker["pid"] for worker in server.get("/status").json["workers"]]


def test_only_those_who_may(stock: Any, server: ServingProcess) -> None:
    from tritonclient.utils import InferenceServerException

    for act in (stock.client.load_model, stock.client.unload_model):
        for headers in (None, WRONG):
            with pytest.raises(InferenceServerException) as caught:
                act("live", headers=headers)
            assert caught.value.status() == stock.unauthenticated
            assert "token" in caught.value.message()
        with pytest.raises(InferenceServerException) as caught:
            act("nothing", headers=RIGHT)
        assert caught.value.status() == stock.unknown
        assert "there are: live, other" in caught.value.message()
    assert answers(server) == 2.0
    assert "horse" not in server.log.read_text()


def test_what_is_unloaded_is_so_in_all_workers_and_comes_back(stock: Any, server: ServingProcess) -> None:
    stock.client.unload_model("live", headers=RIGHT)
    live, other = stock.index()
    assert (live["name"], live["state"], "unloaded on request" in live["reason"]) == ("live", "UNAVAILABLE", True)
    assert (other["name"], other["state"]) == ("other", "READY")
    assert not stock.client.is_model_ready("live")
    assert stock.client.is_server_ready()
    assert {answers(server) for _ in range(8)} == {503}
    assert answers(server, "other") == 7.0
    stock.client.load_model("live", headers=RIGHT)
    assert {answers(server) for _ in range(8)} == {2.0}
    assert [one["state"] for one in stock.index()] == ["READY", "READY"]


def test_neither_an_unchanged_wish_nor_a_new_worker_brings_it_back(
    server: ServingProcess, control: ControlPlane, lines: dict[int, Deployment]
) -> None:
    stock = OverHttp(server)
    stock.client.unload_model("live", headers=RIGHT)
    before, asked = workers(server), control.unchanged
    until(lambda: control.unchanged > asked + 2, "the same state is asked for again")
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(now := workers(server)) == 2 and before[0] not in now, "another worker")
    control.state = DesiredState(2, control.state.deployments)
    until(lambda: server.get("/status").json["generation"] == 2, "the next generation")
    assert {answers(server) for _ in range(8)} == {503}
    control.state = DesiredState(3, (lines[3], control.state.deployments[1]))
    until(lambda: {answers(server) for _ in range(8)} == {3.0}, "a new version is loaded")
    control.state = DesiredState(4, (lines[2], control.state.deployments[1]))
    until(lambda: {answers(server) for _ in range(8)} == {2.0}, "and the former one, wanted again, too")
    stock.client.close()


def test_what_cannot_be_loaded_says_why(
    server: ServingProcess, control: ControlPlane, lines: dict[int, Deployment]
) -> None:
    from tritonclient.utils import InferenceServerException

    stock = OverGrpc(server)
    stock.client.unload_model("live", headers=RIGHT)
    model = Path(lines[2].bundle) / "model" / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    with pytest.raises(InferenceServerException, match=r"cannot be loaded: .*model\.onnx"):
        stock.client.load_model("live", headers=RIGHT)
    model.write_bytes(whole)
    stock.client.load_model("live", headers=RIGHT)
    assert {answers(server) for _ in range(8)} == {2.0}
    stock.client.close()


def test_by_default_nobody_may(tmp_path: Path) -> None:
    bundle = write_line(tmp_path / "line")
    with serving(tmp_path, "--bundle", bundle.path, "--name", "live", "--workers", 1) as server:
        server.wait_ready()
        reply = server.ask("POST", "/v2/repository/models/live/unload", b"", RIGHT)
        assert (reply.status, reply.json["code"]) == (403, "PolicyDenied")
        assert "MODELYARD_ADMIN_TOKEN" in reply.json["error"]
        assert answers(server) == 2.0
