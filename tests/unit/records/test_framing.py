from hypothesis import given
from hypothesis import strategies as st

from modelyard.records.framing import FRAME_BYTES, HEADER_BYTES, Framing, header, salt_of

SALT = bytes(range(1, 9))
FRAMING = Framing.of(SALT)
payloads = st.lists(st.binary(max_size=64), max_size=12)


def joined(parts: list[bytes]) -> bytes:
    return b"".join(map(FRAMING.frame, parts))


@given(payloads)
def test_what_was_framed_comes_back_in_order(parts: list[bytes]) -> None:
    found = FRAMING.frames(joined(parts))
    assert list(found.payloads()) == parts
    assert found.damaged == []
    assert found.end == len(joined(parts))


@given(payloads, st.integers(min_value=0))
def test_a_cut_loses_only_the_frame_that_is_cut(parts: list[bytes], cut: int) -> None:
    data = joined(parts)
    cut = cut % (len(data) + 1)
    found = FRAMING.frames(data[:cut])
    whole = list(found.payloads())
    assert whole == parts[: len(whole)]
    assert found.end == len(joined(whole)) <= cut
    assert len(whole) == len(parts) or cut < len(joined(parts[: len(whole) + 1]))
    assert found.damaged == []


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=3, max_size=8), st.data())
def test_a_changed_byte_loses_only_its_frame_and_says_where(parts: list[bytes], data: st.DataObject) -> None:
    hit = data.draw(st.integers(0, len(parts) - 2))
    start = len(joined(parts[:hit]))
    at = start + data.draw(st.integers(0, FRAME_BYTES + len(parts[hit]) - 1))
    damaged = bytearray(joined(parts))
    damaged[at] ^= data.draw(st.integers(1, 255))
    found = FRAMING.frames(bytes(damaged))
    assert list(found.payloads()) == parts[:hit] + parts[hit + 1 :]
    assert found.damaged == [(start, FRAME_BYTES + len(parts[hit]))]


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_frames(data: bytes) -> None:
    assert FRAMING.frames(data).found == [] or FRAMING.mark in data


def test_a_frame_inside_a_payload_is_not_taken_for_one_even_after_damage() -> None:
    # Someone who knows the format, but not the salt, sends a request that holds a frame.
    forged = Framing.of(b"guessing").frame(b"forged")
    data = bytearray(FRAMING.frame(b"first " + forged) + FRAMING.frame(b"second"))
    data[5] ^= 1
    assert list(FRAMING.frames(bytes(data)).payloads()) == [b"second"]


def test_scanning_can_start_at_any_frame() -> None:
    data = joined([b"one", b"two"])
    assert list(FRAMING.frames(data, start=FRAME_BYTES + 3).payloads()) == [b"two"]


def test_a_header_carries_the_salt() -> None:
    assert len(header(SALT)) == HEADER_BYTES
    assert salt_of(header(SALT)) == SALT
    assert salt_of(header(SALT)[:-1]) is None
    assert salt_of(b"something else, longer than a header") is None
