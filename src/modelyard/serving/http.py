"""HTTP at the edge: status codes of errors, bodies in, replies out."""

from __future__ import annotations

from math import ceil
from typing import Any

import msgspec

from modelyard.domain.records import Outcome
from modelyard.errors import (
    Conflict,
    DeadlinePassed,
    Failed,
    InvalidInput,
    ModelyardError,
    NotAuthenticated,
    NotFound,
    NotOffered,
    Overloaded,
    PolicyDenied,
    Rejected,
    RowsRefused,
    TooLarge,
    Unavailable,
    UnknownEncoding,
    VersionLoading,
)

HTTP_STATUS: tuple[tuple[type[ModelyardError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (UnknownEncoding, 415),
    (NotOffered, 501),
    (NotAuthenticated, 401),
    (PolicyDenied, 403),
    (Rejected, 400),
    (RowsRefused, 422),
    (Failed, 500),
    (Overloaded, 429),
    (DeadlinePassed, 504),
    (Unavailable, 503),
)
"""The first kind that fits decides."""

RETRY_AFTER_SECONDS = 1


class WrongVerb(Rejected):
    """The path exists, but not for this verb."""

    def __init__(self, verb: str, path: str, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(f"{verb} is not possible on {path}; use {allowed}")


class UnknownPath(NotFound):
    """There is nothing at that path."""


def status_of(error: BaseException) -> int:
    """The HTTP status that says what kind of error it is; 500 for whatever is not one of ours.

    >>> status_of(InvalidInput("no such column")), status_of(ZeroDivisionError())
    (400, 500)
    """
    if isinstance(error, WrongVerb):
        return 405
    return next((status for kind, status in HTTP_STATUS if isinstance(error, kind)), 500)


def outcome_of(status: int) -> Outcome:
    """What a record says of a call that ended with that status.

    >>> [outcome_of(status) for status in (200, 404, 501, 500, 503)]
    ['ok', 'refused', 'refused', 'failed', 'unavailable']
    """
    if status < 400:
        return "ok"
    if status < 500 or status == 501:
        return "refused"
    return "unavailable" if status == 503 else "failed"


class Reply(msgspec.Struct, frozen=True):
    """A complete answer. `error` is what it reports, for entrances that have their own words for errors."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"
    error: BaseException | None = None


def json_reply(document: Any, status: int = 200) -> Reply:
    """A reply with `document` as JSON."""
    return Reply(status, msgspec.json.encode(document))


def error_reply(error: BaseException, request_id: str | None = None) -> Reply:
    """The reply that reports `error`: ``{"error": text, "code": kind}`` and, where known, what it is about."""
    status = status_of(error)
    known = isinstance(error, ModelyardError)
    text = str(error) if known else "the server failed on this request; its log has the details"
    document: dict[str, Any] = {"error": text, "code": type(error).__name__ if known else "InternalError"}
    if isinstance(error, InvalidInput) and error.column is not None:
        document["details"] = {"column": error.column, "row": error.row}
    if request_id is not None:
        document["request_id"] = request_id
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, WrongVerb):
        headers = ((b"allow", error.allowed.encode()),)
    elif status == 401:
        headers = ((b"www-authenticate", b'Bearer realm="modelyard"'),)
    elif isinstance(error, Overloaded | VersionLoading):
        headers = ((b"retry-after", str(max(1, ceil(error.retry_after))).encode()),)
    elif status == 503:
        headers = ((b"retry-after", str(RETRY_AFTER_SECONDS).encode()),)
    return Reply(status, msgspec.json.encode(document), headers, error=error)
