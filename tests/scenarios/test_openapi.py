"""A real server answers whatever its OpenAPI document allows, and much that it does not, as the document says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import compiled_bundles
import small_bundles
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.protocol.media import CSV, JSON
from modelyard.serving.openapi import Offered, document
from serving_process import ControlPlane, ServingProcess, serving

DESCRIBED = schemathesis.openapi.from_dict(msgspec.json.decode(document("0")))
OPERATIONS: dict[str, Any] = {one.ok().label: one.ok() for one in DESCRIBED.get_all_operations()}
EXAMPLES = int(os.environ.get("MODELYARD_EXAMPLES", "4"))
"""Requests for each operation, twice each; the long form is ``make api``."""

CHECKS: list[Any] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    folder = tmp_path_factory.mktemp("openapi")
    bundle = compiled_bundles.write_compiled(folder / "bundle")
    with serving(folder, "--bundle", bundle.path, "--name", "live", "--model", "toy", "--version", 3) as server:
        server.wait_ready()
        yield server


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_as_documented(label: str, server: ServingProcess) -> None:
    asked = 0

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(OPERATIONS[label].as_strategy())
    def answers(case: schemathesis.Case) -> None:
        nonlocal asked
        for names in ({}, {"deployment": "live", "version": "3"}):
            case.path_parameters.update({name: names[name] for name in case.path_parameters if name in names})
            response = case.call(base_url=server.url, timeout=30)
            asked += 1
            assert response.status_code < 500 or response.status_code in (501, 503), response.text
            case.validate_response(response, checks=CHECKS)

    answers()
    assert asked


def test_the_server_serves_its_document(server: ServingProcess) -> None:
    reply = server.get("/openapi.json")
    assert reply.status == 200
    offered = Offered("live", "any", compiled_bundles.schema())
    assert reply.json["paths"] == msgspec.json.decode(document("0", (offered,)))["paths"]


def test_every_example_is_answered(tmp_path: Path) -> None:
    """Also by a model whose deployment has another name than the one before it."""
    toy, line = compiled_bundles.write_compiled(tmp_path / "toy"), small_bundles.write_line(tmp_path / "line")
    bundles = {"live": toy, "line": line}
    wanted = [Deployment(name, name, 7, one.digest, str(one.path)) for name, one in bundles.items()]
    control = ControlPlane(DesiredState(1, tuple(wanted)))
    control.start()
    posted = set()
    with serving(tmp_path / "server", "--desired", control.url, "--workers", 1) as server:
        server.wait_ready()
        described = server.get("/openapi.json").json
        for path, kind, name, example in _examples(described):
            where = path.format(deployment=name, version=7, repository="any")
            body = example if isinstance(example, str) else json.dumps(example)
            reply = server.ask("POST", where, body.encode(), {"Content-Type": kind})
            if path == "/invocations":
                assert reply.status == 404, "which of the two is meant?"
                continue
            assert reply.status == 200, (where, reply.body)
            posted.add((path.partition("{")[0], kind, name))
    control.stop()
    for path in ("/predict/", "/invocations/", "/v2/models/"):
        assert {(path, JSON, name) for name in bundles} <= posted
    assert {("/invocations/", CSV, name) for name in bundles} <= posted
    assert {"/labels", "/v2/repository/index"} <= {path for path, *_ in posted}


def _examples(described: Any) -> Iterator[tuple[str, str, str, Any]]:
    """Path, type, name and value of every example of a body."""
    for path, operations in described["paths"].items():
        for kind, body in operations.get("post", {}).get("requestBody", {}).get("content", {}).items():
            for name, example in body.get("examples", {}).items():
                if "$ref" in example:
                    example = described["components"]["examples"][example["$ref"].rpartition("/")[2]]
                yield path, kind, name, example["value"]
