"""How a process says that it is listening: a small file with its address, written in one piece."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a process listens, and which process it is."""

    url: str
    pid: int


_ANNOUNCEMENTS = msgspec.json.Decoder(Announcement)


def write(path: Path, document: object) -> None:
    """Put `document` at `path` as JSON; a reader sees the old file or the new one, never a part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(msgspec.json.encode(document))
    part.replace(path)


def read(path: Path) -> Announcement | None:
    """What stands at `path`; None while there is nothing."""
    try:
        return _ANNOUNCEMENTS.decode(path.read_bytes())
    except FileNotFoundError:
        return None
