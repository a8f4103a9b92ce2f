from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
import pytest

from modelyard.control.api import create_app
from modelyard.control.deployments import desired_state
from modelyard.domain.desired import DesiredState
from modelyard.registry import Registry
from small_bundles import report, write_bundle


class Caller:
    """Calls the application directly, as a client on this machine would."""

    def __init__(self, registry: Registry) -> None:
        self._app = create_app(registry)

    def __call__(self, method: str, path: str, **more: object) -> httpx.Response:
        import asyncio

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
                return await client.request(method, path, **more)  # type: ignore[arg-type]

        return asyncio.run(call())


@pytest.fixture
def call(registry: Registry, tmp_path: Path) -> Caller:
    bundle = write_bundle(tmp_path / "b")
    registry.add_report(registry.register(bundle), report(bundle))
    return Caller(registry)


def test_deploying_changes_the_desired_state(call: Caller, registry: Registry) -> None:
    answer = call("POST", "/deployments", json={"ref": "toy@1", "to": "live", "by": "ada"})
    assert answer.status_code == 200
    assert answer.json()["generation"] == 1
    got = call("GET", "/desired-state")
    assert msgspec.json.decode(got.content, type=DesiredState) == desired_state(registry)
    assert call("GET", "/deployments").json()["deployments"][0]["by"] == "ada"


def test_an_unchanged_desired_state_is_not_sent_again(call: Caller) -> None:
    tag = call("GET", "/desired-state").headers["etag"]
    again = call("GET", "/desired-state", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    call("POST", "/deployments", json={"ref": "toy@1", "to": "live"})
    assert call("GET", "/desired-state", headers={"If-None-Match": tag}).status_code == 200


def test_undeploying_and_history(call: Caller) -> None:
    call("POST", "/deployments", json={"ref": "toy@1", "to": "live"})
    assert call("DELETE", "/deployments/live?by=bob").json()["version"] is None
    decisions = call("GET", "/deployments/live/history").json()["decisions"]
    assert [one["version"] for one in decisions] == [1, None]


def test_models_versions_and_reports_can_be_read(call: Caller) -> None:
    assert call("GET", "/models").json()["models"][0]["name"] == "toy"
    assert call("GET", "/models/toy/versions").json()["versions"][0]["number"] == 1
    version = call("GET", "/models/toy/versions/1").json()
    assert (version["proven"], version["manifest"]["estimator"]) == (True, "LinearRegression")
    assert call("GET", "/models/toy/versions/1/reports").json()["reports"][0]["report"]["passed"] is True
    assert call("GET", "/health").json()["ok"] is True


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/models/tax/versions", None, 404, "no model 'tax'"),
        ("GET", "/models/toy/versions/9", None, 404, "no version 9"),
        ("GET", "/models/toy/versions/x", None, 422, "number"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("PUT", "/deployments", None, 405, "Method Not Allowed"),
        ("DELETE", "/deployments/live", None, 404, "nothing is deployed"),
        ("POST", "/deployments", {"ref": "toy@1"}, 422, "to"),
        ("POST", "/deployments", {"ref": "toy@1", "to": "live", "two": 1}, 422, "two"),
        ("POST", "/deployments", {"ref": "toy@1", "to": "a/b"}, 422, "cannot name"),
    ],
)
def test_errors_are_one_sentence_in_json(
    call: Caller, method: str, path: str, body: object, status: int, says: str
) -> None:
    answer = call(method, path, json=body) if body else call(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert says in answer.json()["error"]


def test_an_unproven_version_is_refused_without_a_reason(call: Caller, registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "c", content=b"2"))
    refused = call("POST", "/deployments", json={"ref": "toy@2", "to": "live"})
    assert (refused.status_code, "modelyard verify toy@2" in refused.json()["error"]) == (422, True)
    assert call("POST", "/deployments", json={"ref": "toy@2", "to": "live", "unproven": "drill"}).status_code == 200


def test_a_page_on_the_web_cannot_make_decisions(call: Caller) -> None:
    body = b'{"ref": "toy@1", "to": "live"}'
    plain = call("POST", "/deployments", content=body, headers={"Content-Type": "text/plain"})
    elsewhere = call("POST", "/deployments", content=body, headers={"Host": "evil.example"})
    assert (plain.status_code, elsewhere.status_code) == (422, 400)
    assert call("GET", "/desired-state").json()["generation"] == 0
