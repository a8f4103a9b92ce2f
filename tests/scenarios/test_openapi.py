"""A real server answers whatever its OpenAPI document allows, and much that it does not, as the document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import compiled_bundles
from modelyard.serving.openapi import document
from serving_process import ServingProcess, serving

DESCRIBED = schemathesis.openapi.from_dict(msgspec.json.decode(document("0")))
OPERATIONS: dict[str, Any] = {one.ok().label: one.ok() for one in DESCRIBED.get_all_operations()}
CHECKS: list[Any] = [status_code_conformance, content_type_conformance, response_schema_conformance]


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
        max_examples=4,
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
    assert reply.json["paths"] == msgspec.json.decode(document("0"))["paths"]
