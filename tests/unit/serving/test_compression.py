"""Compressed bodies both ways: every encoding, bombs, damage, and which one an answer gets."""

from __future__ import annotations

import contextlib
import gzip
import zlib

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import TooLarge, UnknownEncoding
from modelyard.serving.compression import ENCODINGS, compressed, decompressed

LIMIT = 10_000
COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


@given(st.binary(max_size=2000), st.sampled_from(ENCODINGS))
def test_every_encoding_comes_back(body: bytes, encoding: str) -> None:
    assert decompressed(COMPRESS[encoding](body), encoding, LIMIT) == body
    assert decompressed(COMPRESS[encoding](body), f" {encoding.upper()}", LIMIT) == body


def test_nothing_is_done_to_a_body_without_encoding() -> None:
    assert decompressed(b"abc", "", 1) == decompressed(b"abc", "identity", 1) == b"abc"
    assert decompressed(gzip.compress(b"abc"), "x-gzip", LIMIT) == b"abc"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_not_unpacked(encoding: str) -> None:
    with pytest.raises(TooLarge, match="more than 10000 bytes"):
        decompressed(COMPRESS[encoding](bytes(50_000_000)), encoding, LIMIT)
    assert len(decompressed(COMPRESS[encoding](bytes(LIMIT)), encoding, LIMIT)) == LIMIT


def test_a_zstd_frame_that_wants_a_huge_window_is_refused() -> None:
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([(27 - 10) << 3])
    with pytest.raises(UnknownEncoding, match="not valid zstd"):
        decompressed(header + b"\x01\x00\x00", "zstd", LIMIT)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_damage_is_refused(encoding: str) -> None:
    whole = COMPRESS[encoding](b"some text" * 20)
    for damaged in (b"", whole[:-3], whole + b"x", b"plain", whole + whole):
        with pytest.raises(UnknownEncoding, match=f"not valid {encoding}"):
            decompressed(damaged, encoding, LIMIT)


@given(st.binary(max_size=200), st.sampled_from(ENCODINGS))
def test_any_bytes_are_unpacked_or_refused(body: bytes, encoding: str) -> None:
    with contextlib.suppress(UnknownEncoding, TooLarge):
        decompressed(body, encoding, LIMIT)


@pytest.mark.parametrize(
    ("encoding", "says"), [("br", "'br' is not understood; there are: gzip"), ("gzip, zstd", "names several; send one")]
)
def test_other_encodings_and_several_at_once_are_refused(encoding: str, says: str) -> None:
    with pytest.raises(UnknownEncoding, match=says):
        decompressed(b"x", encoding, LIMIT)


@pytest.mark.parametrize(
    ("wish", "encoding"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("zstd;q=0.1, gzip;q=0.2", "gzip"),
        ("zstd;q=0, *", "gzip"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("br", None),
        ("identity", None),
        ("identity;q=0.5, deflate", "deflate"),
        ("identity, deflate;q=0.5", None),
        ("gzip;q=high", None),
        ("gzip;q=7", None),
        ("GZIP ; Q=0.3", "gzip"),
        (",,;q=1,gzip", "gzip"),
        ("gzip;level=9", "gzip"),
    ],
)
def test_the_caller_chooses_the_encoding_of_the_answer(wish: str, encoding: str | None) -> None:
    body = b"text " * 1000
    for _ in range(2):
        packed, name = compressed(body, wish)
        assert name == encoding
        assert decompressed(packed, name or "", 10**6) == body


def test_a_short_answer_is_sent_as_it_is() -> None:
    assert compressed(b"x" * 1000, "gzip") == (b"x" * 1000, None)


@given(st.text(max_size=60))
def test_any_wish_is_understood_or_ignored(wish: str) -> None:
    assert compressed(bytes(2000), wish)[1] in {*ENCODINGS, None}
