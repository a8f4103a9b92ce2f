"""Storing and registering beside a collection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from modelyard.errors import ContentCollected

_ATTEMPTS = 10

Kept = TypeVar("Kept")


def again(store: Callable[[], Kept]) -> Kept:
    """Store and register, once more where what was found to be stored was collected meanwhile.

    Raises:
        ContentCollected: that happened too often.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return store()
        except ContentCollected:
            continue
    return store()
