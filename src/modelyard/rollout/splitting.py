"""Which version answers a call: by a hash of its key, so that every replica says the same without asking anybody.

A key has one place between 0 and 1 for each deployment, and for each salt. Versions have stretches of that line in the
order in which they are given. When the share of the last one grows, calls go over to it, and none comes back: who has
seen the candidate stays with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from blake3 import blake3

from modelyard.errors import InvalidRequest

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


def chosen(at: float, weights: Sequence[float]) -> int:
    """The number of the version to whose stretch the place `at` belongs.

    Stretches are measured from the end, so that the last version keeps what it had when it is given more.

    >>> [chosen(at, [0.9, 0.1]) for at in (0.0, 0.89, 0.95)]
    [0, 0, 1]
    >>> chosen(0.5, [1.0, 0.0])
    0

    Raises:
        InvalidRequest: weights are not shares that add up to 1.
    """
    check(weights)
    left = 1.0
    for number in range(len(weights) - 1, 0, -1):
        left -= weights[number]
        if weights[number] and at >= left:
            return number
    return 0


def check(weights: Sequence[float]) -> None:
    """See that weights are shares that add up to 1.

    Raises:
        InvalidRequest: they are not.
    """
    fair = bool(weights) and all(0.0 <= weight <= 1.0 for weight in weights)
    if not fair or abs(math.fsum(weights) - 1.0) > 1e-9:
        raise InvalidRequest(f"weights {list(weights)} are no shares; give numbers of 0 to 1 with the sum 1")
