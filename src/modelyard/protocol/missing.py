"""Missing texts among raw bytes: they are empty there, and a parameter of the tensor says where they are.

Raw bytes and the typed lists of gRPC know no null, and an empty text is a value like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.errors import InvalidRequest

PARAMETER = "missing"
"""Parameter of a ``BYTES`` tensor: the flat positions of its missing elements, ascending, as in ``"0,4"``."""


def positions(values: Sequence[Any]) -> str:
    """The parameter for these values; empty when none is missing.

    >>> positions(["late", None, "", None]), positions(["late"])
    ('1,3', '')
    """
    if None not in values:
        return ""
    return ",".join(str(at) for at, value in enumerate(values) if value is None)


def only_of_texts(datatype: str, name: str) -> InvalidRequest:
    """The error that a tensor without texts has the parameter."""
    return InvalidRequest(
        f"tensor {name!r}: the parameter {PARAMETER!r} is for BYTES, not for {datatype[:40]}; send NaN in a "
        "floating-point tensor where a number is missing"
    )


def with_missing(texts: Sequence[str], said: Any, name: str) -> list[str | None]:
    """The texts of tensor `name` with None where its parameter says so.

    Raises:
        InvalidRequest: the parameter does not have that form, or names an element that is a text or not there.

    >>> with_missing(["late", ""], "1", "carrier")
    ['late', None]
    """
    marked: list[str | None] = list(texts)
    for word in said.split(",") if type(said) is str and said else (said,):
        at = int(word) if type(word) is str and word.isascii() and word.isdecimal() and len(word) < 16 else -1
        if not 0 <= at < len(marked):
            raise InvalidRequest(
                f"tensor {name!r}: its parameter {PARAMETER!r} is to hold positions of elements from 0 to "
                f"{len(texts) - 1}, as in '0,4'; got {str(said)[:40]!r}"
            )
        if texts[at]:
            raise InvalidRequest(f"tensor {name!r}: element {at} is said to be missing, but is a text")
        marked[at] = None
    return marked
