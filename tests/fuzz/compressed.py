"""Compressed bodies, and what callers say of the compression that they want."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator

from modelyard.errors import TooLarge, UnknownEncoding
from modelyard.serving.compression import ENCODINGS, KNOWN_FIRST, QUICK_FIRST, compressed, decompressed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WORDS = ("gzip", "deflate", "zstd", "identity", "br", "*", ";q=0.5", ", ", "x-gzip")
LIMIT = 1 << 20
_ANSWER = b"an answer " * 200


def seeds() -> Iterator[bytes]:
    """Bodies in every compression, some that unpack to much, and wishes."""
    for text in (b"", b"rows " * 100, bytes(LIMIT), bytes(LIMIT + 1), bytes(50 * LIMIT)):
        yield b"\0" + gzip.compress(text, 1)
        yield b"\1" + zlib.compress(text, 1)
        yield b"\2" + zstd.compress(text)
    for wish in (b"gzip, deflate, br, zstd", b"gzip;q=0.5, identity;q=0.2, *;q=0", b"*", b"zstd;q=nan"):
        yield b"\3" + wish


def one(data: bytes) -> None:
    """As a body in the compression that the first byte says, or as the header ``Accept-Encoding``."""
    if not data:
        return
    if data[0] % 4 == 3:
        _wish(data[1:].decode("latin-1"))
        return
    encoding = ENCODINGS[data[0] % 4]
    try:
        plain = decompressed(data[1:], encoding, LIMIT)
    except (UnknownEncoding, TooLarge):
        return
    assert len(plain) <= LIMIT


def _wish(wish: str) -> None:
    for order in (QUICK_FIRST, KNOWN_FIRST):
        body, encoding = compressed(_ANSWER, wish, order)
        assert decompressed(body, encoding or "", LIMIT) == _ANSWER
    try:
        decompressed(b"x", wish, LIMIT)
    except (UnknownEncoding, TooLarge):
        return
