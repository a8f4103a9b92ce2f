"""Names, texts and paths as SQL spells them."""

from __future__ import annotations

from collections.abc import Sequence


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def pointer(keys: Sequence[str]) -> str:
    """The JSON pointer of a path of keys.

    >>> pointer(["predict_proba", "a/b"])
    '/predict_proba/a~1b'
    """
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)
