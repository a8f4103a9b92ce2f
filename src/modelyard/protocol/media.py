"""What the headers of a request say of its body and of the answer that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

JSON, BINARY, ARROW, PROTOBUF, CSV = (
    "application/json",
    "application/octet-stream",
    "application/vnd.apache.arrow.stream",
    "application/grpc",
    "text/csv",
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
