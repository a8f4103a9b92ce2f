"""Several versions asked for at once, in words that both databases answer by an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, tuple_


def among(name: Any, number: Any, keys: Sequence[tuple[str, int]]) -> ColumnElement[bool]:
    """Whether name and number are one of `keys`. SQLite finds pairs by an index only where each part is listed too."""
    names, numbers = {key[0] for key in keys}, {key[1] for key in keys}
    return and_(name.in_(sorted(names)), number.in_(sorted(numbers)), tuple_(name, number).in_(list(keys)))
