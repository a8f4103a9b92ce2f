"""JSON text, strict, with the bare words that clients send."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import InvalidRequest
from modelyard.protocol import jsontext

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_what_is_written_with_words_is_read_again(document: object) -> None:
    assert jsontext.parse(jsontext.write(document, words=True)) == document


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        jsontext.parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b"[1] 2",
        b"{'a': 1}",
        b"[01]",
        b"[1e999]",
        b"[NaN, 1e999]",
        b'[NaN, "\\ud800"]',
        b"[NaN",
        b'["\xff"]',
        b'[NaN, "\xff"]',
        b"[" * 100_000,
        b"[" * 100_000 + b"NaN",
        b"[nan]",
        b"[NaN, " + b"9" * 10_000 + b"]",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        jsontext.parse(body)


def test_bare_words_and_large_integers_are_kept() -> None:
    nan, up, down, large = jsontext.parse(b"[NaN, Infinity, -Infinity, 9007199254740993]")
    assert (math.isnan(nan), up, down, large) == (True, math.inf, -math.inf, 9007199254740993)


def test_words_inside_texts_are_texts() -> None:
    assert jsontext.parse(b'["NaN", NaN, "Infinity"]')[::2] == ["NaN", "Infinity"]
