r"""How records lie in a segment file, with no file in sight: bytes in, bytes out.

A segment is a header followed by frames::

    header = "modelyard log 1\n" + salt                     16 + 8 bytes
    frame  = mark + length + checksum + payload              4 + 4 + 4 + length bytes

`mark` is the first half of the salt; the checksum is the CRC-32 of length and payload, started from the second half.
The salt is random, so no payload can look like a frame to someone who scans past damage. A frame that is not whole at
the end of a segment is an append that was never acknowledged; one in the middle is damage and is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

MAGIC = b"modelyard log 1\n"
SALT_BYTES = 8
HEADER_BYTES = len(MAGIC) + SALT_BYTES
FRAME_BYTES = 12
"""What a frame adds to its payload."""

MAX_PAYLOAD = 2**32 - 1

_HEAD = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Framing:
    """Writes and recognises the frames of segments with one salt.

    >>> framing = Framing.of(bytes(range(8)))
    >>> data = framing.frame(b"one") + framing.frame(b"two")
    >>> [payload for _, payload in framing.frames(data).found]
    [b'one', b'two']
    """

    mark: bytes
    seed: int

    @classmethod
    def of(cls, salt: bytes) -> Framing:
        """The framing of segments whose header ends with this salt of eight bytes."""
        return cls(salt[:4], int.from_bytes(salt[4:SALT_BYTES], "little"))

    def frame(self, payload: bytes) -> bytes:
        """`payload` as a frame, to be written in one go. Its length must be at most `MAX_PAYLOAD`."""
        return self.head(payload) + payload

    def head(self, payload: bytes) -> bytes:
        """What stands before `payload` in its frame."""
        checksum = crc32(payload, crc32(_LENGTH.pack(len(payload)), self.seed))
        return _HEAD.pack(self.mark, len(payload), checksum)

    def frames(self, data: bytes, start: int = 0) -> Frames:
        """Every whole frame of `data` from `start` on, where a frame is expected to begin."""
        found: list[tuple[int, bytes]] = []
        damaged: list[tuple[int, int]] = []
        at = start
        while at < len(data):
            payload = self._payload_at(data, at)
            if payload is not None:
                found.append((at, payload))
                at += FRAME_BYTES + len(payload)
                continue
            following = self._next_frame(data, at + 1)
            if following is None:
                break
            damaged.append((at, following - at))
            at = following
        return Frames(found, damaged, at)

    def _payload_at(self, data: bytes, at: int) -> bytes | None:
        if len(data) - at < FRAME_BYTES:
            return None
        mark, length, checksum = _HEAD.unpack_from(data, at)
        begin = at + FRAME_BYTES
        if mark != self.mark or length > len(data) - begin:
            return None
        payload = data[begin : begin + length]
        return payload if crc32(payload, crc32(_LENGTH.pack(length), self.seed)) == checksum else None

    def _next_frame(self, data: bytes, begin: int) -> int | None:
        at = data.find(self.mark, begin)
        while at >= 0:
            if self._payload_at(data, at) is not None:
                return at
            at = data.find(self.mark, at + 1)
        return None


@dataclass(frozen=True, slots=True)
class Frames:
    """What a scan found: payloads with their offsets, damaged stretches ``(offset, size)``, and where it ended.

    `end` is the offset just after the last whole frame; from there on nothing could be read (yet).
    """

    found: list[tuple[int, bytes]]
    damaged: list[tuple[int, int]]
    end: int

    def payloads(self) -> Iterator[bytes]:
        """The payloads alone, in order."""
        return (payload for _, payload in self.found)


def header(salt: bytes) -> bytes:
    """The first bytes of a segment."""
    return MAGIC + salt


def salt_of(data: bytes) -> bytes | None:
    """The salt that a segment's first bytes carry, or None where they are not (or not yet) a whole header.

    >>> salt_of(header(b"12345678") + b"...")
    b'12345678'
    """
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        return None
    return data[len(MAGIC) : HEADER_BYTES]
