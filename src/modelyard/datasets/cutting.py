"""Where content is cut: at places that the bytes themselves choose, so that an insertion moves only cuts beside it."""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3
from pyfastcdc import FastCDC

LEAST, USUAL, MOST = 2**18, 2**20, 2**22
"""Smallest, expected and largest chunk in bytes. A file up to the smallest is one chunk."""

_CUTTER = FastCDC(USUAL, min_size=LEAST, max_size=MOST, normalized_chunking=2)


def cut(block: memoryview) -> Iterator[memoryview]:
    """Chunks of `block` in order. All but the last are where they would be if more bytes followed.

    >>> sum(map(len, cut(memoryview(bytes(5 * 2**20)))))
    5242880
    """
    for chunk in _CUTTER.cut_buf(block):
        yield chunk.data


def hashed(chunks: Iterator[memoryview] | list[memoryview]) -> list[tuple[bytes, memoryview]]:
    """Each chunk with its BLAKE3."""
    return [(blake3(chunk).digest(), chunk) for chunk in chunks]
