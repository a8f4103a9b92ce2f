"""Which version answers a call: by a hash of its key, so that every replica says the same without asking anybody.

A key has one place between 0 and 1 for each salt. The candidate has the end of that line, as much of it as its share
is. When the share grows, calls go over to the candidate, and none comes back: who has seen it stays with it.
"""

from __future__ import annotations

import math

from blake3 import blake3

from modelyard.domain.frame import Frame

_UNIT = 2.0**-64


def place(key: str, salt: str) -> float:
    """Where a key lies, at least 0 and below 1; evenly, and independently for every salt.

    >>> place("customer-17", "flights/7") == place("customer-17", "flights/7")
    True
    >>> place("customer-17", "flights/8") == place("customer-17", "flights/7")
    False
    """
    digest = blake3(f"{len(salt)}:{salt}{key}".encode("utf-8", "backslashreplace")).digest(8)
    return min(int.from_bytes(digest, "big") * _UNIT, math.nextafter(1.0, 0.0))


def goes_to_candidate(key: str, salt: str, share: float) -> bool:
    """Whether the candidate, which has this share of the calls, answers a call with this key.

    >>> goes_to_candidate("customer-17", "flights/7", 0.0), goes_to_candidate("customer-17", "flights/7", 1.0)
    (False, True)
    """
    return place(key, salt) >= 1.0 - share


def key_in(frame: Frame, column: str) -> str:
    """The key of a call whose rows are about the same thing: the value of a column in its first row, as text.

    Empty where there is none: no row, no such column, a missing value.

    >>> import numpy as np
    >>> from modelyard.domain.frame import Vector
    >>> key_in(Frame({"customer": Vector(np.array([17, 18]))}, 2), "customer")
    '17'
    """
    if not frame.rows or column not in frame.columns:
        return ""
    found = frame.columns[column].take(slice(0, 1))
    return "" if bool(found.is_missing().any()) else str(found.values.tolist()[0])
