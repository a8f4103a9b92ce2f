"""HTTP at the edge: statuses, bodies, encodings."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard import errors
from modelyard.serving.http import (
    BodyFacts,
    Disconnected,
    UnknownEncoding,
    body_facts,
    decompressed,
    error_reply,
    outcome_of,
    read_body,
    status_of,
)

LIMIT = 1000


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
        (ZeroDivisionError("secret"), 500, "failed"),
    ],
)
def test_every_error_has_a_status_and_an_outcome(error: Exception, status: int, outcome: str) -> None:
    assert (status_of(error), outcome_of(status)) == (status, outcome)
    reply = error_reply(error, "p1")
    assert b'"request_id":"p1"' in reply.body
    assert b"secret" not in reply.body
    assert ((b"retry-after", b"1") in reply.headers) == (status == 503)


def read(pieces: list[bytes], facts: BodyFacts | None = None, *, cut: bool = False) -> bytes:
    messages: list[Any] = [
        {"type": "http.request", "body": piece, "more_body": cut or at < len(pieces) - 1}
        for at, piece in enumerate(pieces)
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return asyncio.run(read_body(receive, facts or BodyFacts(), LIMIT))


def test_a_body_arrives_in_one_piece_or_many() -> None:
    assert read([b"abc"]) == read([b"a", b"", b"bc"]) == b"abc"


def test_a_client_that_goes_away_is_noticed() -> None:
    for pieces in ([], [b"a"]):
        with pytest.raises(Disconnected):
            read(pieces, cut=True)


@pytest.mark.parametrize(
    ("pieces", "facts"),
    [
        ([b"x" * 1001], BodyFacts()),
        ([b"x" * 600, b"x" * 600], BodyFacts()),
        ([b""], BodyFacts(length=1001)),
        ([gzip.compress(b"x" * 10**6)], BodyFacts(encoding="gzip")),
        ([zlib.compress(b"x" * 10**6)], BodyFacts(encoding="deflate")),
    ],
)
def test_a_body_beyond_the_limit_is_refused_also_when_it_is_compressed(pieces: list[bytes], facts: BodyFacts) -> None:
    with pytest.raises(errors.TooLarge, match="more than 1000 bytes"):
        read(pieces, facts)


@given(st.binary(max_size=LIMIT))
def test_compressed_bodies_come_back(body: bytes) -> None:
    assert decompressed(gzip.compress(body), "gzip", LIMIT) == body
    assert decompressed(zlib.compress(body), "deflate", LIMIT) == body
    assert decompressed(body, "identity", LIMIT) == body


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"x", "gzip"),
        (b"x", "deflate"),
        (b"x", "br"),
        (gzip.compress(b"abc", mtime=0)[:-2], "gzip"),
        (zlib.compress(b"a") + b"b", "deflate"),
    ],
)
def test_damaged_or_unknown_encodings_are_refused(body: bytes, encoding: str) -> None:
    with pytest.raises(UnknownEncoding):
        decompressed(body, encoding, LIMIT)


def test_headers_are_read() -> None:
    facts = body_facts([(b"content-type", b"Text/CSV; charset=utf-8"), (b"inference-header-content-length", b"0")])
    assert (facts.media_type, facts.binary, facts.length) == ("text/csv", True, None)
