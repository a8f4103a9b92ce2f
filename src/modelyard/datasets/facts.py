"""What is known of a dataset version beside its files: its tables with columns and row counts, its images."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Profile: TypeAlias = dict[str, dict[str, Any]]
"""Table name to column name to the counts that describe the column, see `modelyard.domain.profile`."""


class Field(msgspec.Struct, frozen=True):
    """A column of a table: its name, its SQL type, and in how many rows it is missing."""

    name: str
    type: str
    missing: int


class TableFacts(msgspec.Struct, frozen=True):
    """A table: the files it is made of, its columns and its rows.

    `name` is the file's path without its ending, or the folder of several files (``.`` for the topmost). `key` are the
    columns that tell rows apart, if that was said. `content` is a digest over the files, by which an unchanged table is
    known.
    """

    name: str
    format: str
    files: tuple[bytes, ...]
    rows: int
    columns: tuple[Field, ...]
    content: bytes
    key: tuple[str, ...] = ()


class Images(msgspec.Struct, frozen=True):
    """The images of a dataset: how many of each kind, and the smallest and largest width and height in pixels."""

    kinds: dict[str, int]
    width: tuple[int, int] | None
    height: tuple[int, int] | None
    unreadable: int = 0


class Facts(msgspec.Struct, frozen=True):
    """All that a version says of its content. `notes` tell what could not be read as what its name says, and why."""

    tables: tuple[TableFacts, ...] = ()
    images: Images | None = None
    notes: tuple[str, ...] = ()


_FACTS = msgspec.msgpack.Decoder(Facts)


def encode_facts(facts: Facts) -> bytes:
    """The form in which facts are kept."""
    return msgspec.msgpack.encode(facts)


def decode_facts(raw: bytes) -> Facts:
    """Read what `encode_facts` wrote."""
    return _FACTS.decode(raw)
