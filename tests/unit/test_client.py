"""The client's own rules; its work against a real server is in the scenarios."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelyard import errors
from modelyard.client import Client, error_from
from modelyard.serving.http import error_reply


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidInput("column 'x', row 3: no", column="x", row=3),
        errors.DeploymentNotFound("churn", ["live"]),
        errors.VersionNotFound("live", 2, [3]),
        errors.VersionNotReady("it is loading"),
        errors.RowsRefused("13"),
        errors.ModelFailed("broke"),
        errors.TooLarge("too large"),
        errors.NotOffered("not offered"),
        errors.RecordNotKept("the disk is full"),
    ],
)
def test_an_error_of_the_server_is_the_same_error_here(error: errors.ModelyardError) -> None:
    reply = error_reply(error)
    here = error_from(reply.status, reply.body)
    assert (type(here), str(here)) == (type(error), str(error))
    if isinstance(error, errors.InvalidInput) and isinstance(here, errors.InvalidInput):
        assert (here.column, here.row) == ("x", 3)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b"<html>", errors.NotFound),
        (400, b'{"error": "bad"}', errors.InvalidRequest),
        (502, b"", errors.Failed),
        (503, b'{"error": "busy", "code": "Exception"}', errors.Unavailable),
        (500, b'{"error": "bug", "code": "InternalError"}', errors.Failed),
    ],
)
def test_a_foreign_answer_is_told_by_its_status(status: int, body: bytes, kind: type[Exception]) -> None:
    error = error_from(status, body)
    assert type(error) is kind
    assert str(error)


@pytest.mark.parametrize("value", [[1], {"a": 1}, np.array([1, 2]), np.datetime64("2013-01-01"), object()])
def test_a_label_is_a_plain_value(value: Any) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(errors.InvalidInput, match="a label is"):
        client.label("a", value)
