"""HTTP at the edge: every error has its status."""

from __future__ import annotations

import pytest

from modelyard import errors
from modelyard.serving.http import error_reply, outcome_of, status_of


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (errors.InvalidInput("x"), 400, "refused"),
        (errors.InvalidRequest("x"), 400, "refused"),
        (errors.DeploymentNotFound("x"), 404, "refused"),
        (errors.VersionNotFound("x", 1), 404, "refused"),
        (errors.TooLarge("x"), 413, "refused"),
        (errors.RowsRefused("x"), 422, "refused"),
        (errors.ModelFailed("x"), 500, "failed"),
        (errors.NotOffered("x"), 501, "refused"),
        (errors.VersionNotReady("x"), 503, "unavailable"),
        (errors.RuntimeLost("x"), 503, "unavailable"),
        (errors.RecordNotKept("x"), 503, "unavailable"),
        (errors.Overloaded("x", 0.5), 429, "refused"),
        (errors.DeadlinePassed("x"), 504, "failed"),
        (ZeroDivisionError("secret"), 500, "failed"),
    ],
)
def test_every_error_has_a_status_and_an_outcome(error: Exception, status: int, outcome: str) -> None:
    assert (status_of(error), outcome_of(status)) == (status, outcome)
    reply = error_reply(error, "p1")
    assert b'"request_id":"p1"' in reply.body
    assert b"secret" not in reply.body
    assert ((b"retry-after", b"1") in reply.headers) == (status in (429, 503))
