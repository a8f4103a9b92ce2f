"""Bodies without their compression, and answers with the one that the caller asks for (gzip, deflate, zstd)."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from modelyard.errors import TooLarge, UnknownEncoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENCODINGS = ("gzip", "deflate", "zstd")
"""What is understood besides ``identity``; deflate is the one with zlib's wrapper, as the HTTP standard says."""

SMALLEST = 1024
"""Answers of fewer bytes are sent as they are: there is nothing to win."""

_WINDOW: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
"""8 MiB, the most that RFC 9659 allows on HTTP: the memory that a frame of a few bytes can make us set aside."""

_MACHINES: Mapping[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "deflate": lambda: zlib.decompressobj(zlib.MAX_WBITS),
    "zstd": lambda: zstd.ZstdDecompressor(options=_WINDOW),
}
_SAME = {"x-gzip": "gzip"}


def too_large(limit: int) -> TooLarge:
    """The error that a body has more than `limit` bytes."""
    return TooLarge(f"the body has more than {limit} bytes, which is the most that is taken; send fewer rows a request")


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` without its compression, never more than `limit` bytes of it.

    Args:
        body: As it came.
        encoding: The header ``Content-Encoding``; empty for none.
        limit: The most bytes to give back.

    Raises:
        UnknownEncoding: for other encodings than gzip, deflate, zstd and identity, several at once, and damaged data.
        TooLarge: when it would grow beyond `limit`; no more than that was made.

    >>> decompressed(zlib.compress(b"rows"), "deflate", 1000)
    b'rows'
    """
    name = encoding.strip().lower()
    name = _SAME.get(name, name)
    if name in ("", "identity"):
        return body
    make = _MACHINES.get(name)
    if make is None:
        raise _not_understood(name)
    machine = make()
    try:
        plain: bytes = machine.decompress(body, limit + 1)
    except (zlib.error, zstd.ZstdError) as error:
        raise UnknownEncoding(f"the body is not valid {name}: {error}") from None
    if len(plain) > limit:
        raise too_large(limit)
    if not machine.eof or machine.unused_data:
        raise UnknownEncoding(f"the body is not valid {name}: it is cut short or has bytes after its end")
    return plain


def _not_understood(encoding: str) -> UnknownEncoding:
    there = f"there are: {', '.join(ENCODINGS)}, identity"
    if "," in encoding:
        return UnknownEncoding(f"content-encoding {encoding[:80]!r} names several; send one; {there}")
    return UnknownEncoding(f"content-encoding {encoding[:40]!r} is not understood; {there}")


Compress: TypeAlias = Callable[[bytes], bytes]

# The quickest levels: an answer is compressed once and read once.
_COMPRESS: Mapping[str, Compress] = {
    "zstd": lambda body: zstd.compress(body, 1),
    "gzip": lambda body: zlib.compress(body, 1, zlib.MAX_WBITS | 16),
    "deflate": lambda body: zlib.compress(body, 1),
}

QUICK_FIRST = ("zstd", "gzip", "deflate")
"""What is taken of encodings that are equally welcome."""

KNOWN_FIRST = ("gzip", "deflate", "zstd")
"""The same for clients whose HTTP library asks for more than they then understand, as those of Triton do."""


def compressed(body: bytes, accept_encoding: str, order: tuple[str, ...] = QUICK_FIRST) -> tuple[bytes, str | None]:
    """`body` as the caller likes it best, and the name of that encoding (None: as it is).

    Args:
        body: The answer.
        accept_encoding: The header ``Accept-Encoding``; empty where the caller said nothing.
        order: Which comes first of those that are equally welcome.

    >>> compressed(b"x" * 2000, "gzip;q=0.5, zstd")[1], compressed(b"x" * 2000, "identity, gzip;q=0.5")[1]
    ('zstd', None)
    >>> compressed(b"short", "gzip")
    (b'short', None)
    """
    if not accept_encoding or len(body) < SMALLEST:
        return body, None
    encoding = _chosen.get((accept_encoding, order), "")
    if encoding == "":
        encoding = _best(accept_encoding, order)
        if len(_chosen) < _MOST_REMEMBERED:
            _chosen[accept_encoding, order] = encoding
    return (body, None) if encoding is None else (_COMPRESS[encoding](body), encoding)


_MOST_REMEMBERED = 256
_chosen: dict[tuple[str, tuple[str, ...]], str | None] = {}
"""Headers met so far: clients send few different ones."""


def _best(accept_encoding: str, order: tuple[str, ...]) -> str | None:
    wishes = dict(map(_wish, accept_encoding.lower().split(",")))
    wishes = {_SAME.get(name, name): quality for name, quality in wishes.items()}
    others = wishes.get("*", 0.0)
    offered = {name: wishes.get(name, others) for name in order}
    best = max(offered, key=offered.__getitem__)
    # What is not named is as welcome as can be only where nothing else is asked for.
    return best if offered[best] > 0 and offered[best] >= wishes.get("identity", 0.0) else None


def _wish(part: str) -> tuple[str, float]:
    """An encoding and how much it is wanted, from 0 (not at all) to 1."""
    name, _, rest = part.partition(";")
    key, _, value = rest.strip().partition("=")
    if key.strip() != "q":
        return name.strip(), 1.0
    try:
        quality = float(value)
    except ValueError:
        return name.strip(), 0.0
    return name.strip(), quality if 0.0 <= quality <= 1.0 else 0.0
