"""The OpenAPI document says what the tables say."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from modelyard.errors import ModelyardError
from modelyard.serving.http import HTTP_STATUS
from modelyard.serving.openapi import document
from modelyard.serving.routes import _FIXED, _OF_A_MODEL, _OF_NAMES, Action, all_routes, find


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(document("1.2.3"))
    return found


def test_every_route_is_in_it_with_its_verbs(described: dict[str, Any]) -> None:
    paths = described["paths"]
    assert set(paths) >= {*_FIXED, *_OF_NAMES}
    assert len(paths) == len(_FIXED) + len(_OF_NAMES) + 2 * len(_OF_A_MODEL)
    for path, operations in paths.items():
        target = find(path)
        assert target is not None, path
        assert {verb.upper() for verb in operations if verb != "parameters"} == set(target.verbs), path


def test_every_action_has_a_route() -> None:
    assert {target.action for target in all_routes().values()} == set(get_args(Action))


def test_every_status_of_an_error_is_in_it(described: dict[str, Any]) -> None:
    responses = described["paths"]["/predict/{deployment}"]["post"]["responses"]
    of_administration = (401, 403, 409)
    known: list[tuple[type[ModelyardError], int]] = list(HTTP_STATUS)
    assert {str(status) for _, status in known if status not in of_administration} <= set(responses)
    assert {"200", "405", "408", "414", "431"} <= set(responses)


def test_what_it_refers_to_is_there(described: dict[str, Any]) -> None:
    text = msgspec.json.encode(described).decode()
    names = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names == set(described["components"]["schemas"])
    assert described["openapi"].startswith("3.1")
    assert described["info"]["version"] == "1.2.3"
