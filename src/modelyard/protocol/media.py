"""What the headers of a request say of its body and of the answer that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from modelyard.errors import TooLarge

JSON, BINARY, ARROW, PROTOBUF, CSV = (
    "application/json",
    "application/octet-stream",
    "application/vnd.apache.arrow.stream",
    "application/grpc",
    "text/csv",
)


MOST_VALUES = 4 * 1024 * 1024
"""The most values in a body that become Python objects one by one, of which each takes many times its bytes."""


def few_values(body: bytes, marks: tuple[bytes, ...] = (b",", b"[", b"{"), end: int | None = None) -> None:
    """Let a body pass whose first `end` bytes have no more marks between values than there may be values.

    Raises:
        TooLarge: when there are more; nothing of the body is read for that.

    >>> few_values(b"[1,2,3]")
    """
    if len(body) > MOST_VALUES and sum(body.count(mark, 0, end) for mark in marks) > MOST_VALUES:
        raise too_many()


def too_many() -> TooLarge:
    """The error that a body has more values than are taken."""
    return TooLarge(
        f"the body has more than {MOST_VALUES} values; send fewer rows a request, or numbers as bytes or Arrow"
    )


@dataclass(frozen=True, slots=True)
class Media:
    """Types of the bodies, without compression, which is over by then.

    `content_type` is that of the request, in lower case and without parameters, empty where the caller said nothing.
    `accept` is the caller's wish for the answer, as sent. `json_length` is the length of the JSON part of a body that
    goes on with binary tensors (header ``Inference-Header-Content-Length``), None where all of it is JSON.
    """

    content_type: str = ""
    accept: str = ""
    json_length: int | None = None


PLAIN = Media()
"""A request that says nothing of its body."""


def described(media_type: str, json_length: int | None = None) -> str:
    """A body's type as a record keeps it.

    >>> described(BINARY, 261), described("")
    ('application/octet-stream; json=261', 'application/json')
    """
    return f"{BINARY}; json={json_length}" if json_length is not None else media_type or JSON


def media_of(description: str) -> Media:
    """What a record's description of a body says.

    >>> media_of("application/octet-stream; json=261").json_length, media_of("text/csv").content_type
    (261, 'text/csv')
    """
    return Media(description.partition(";")[0], json_length=json_length_of(description))


def json_length_of(description: str) -> int | None:
    """The length of the JSON part of a recorded body, None where all of it is one thing.

    >>> json_length_of("application/octet-stream; json=261"), json_length_of("application/json")
    (261, None)
    """
    _, _, length = description.partition("; json=")
    return int(length) if length.isdecimal() else None
