"""Which kinds of values the inputs and outputs of deployments had, from which their views get the types of columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, TypeAlias

import msgspec

Paths: TypeAlias = dict[str, set[str]]
"""JSON path (keys joined by NUL) → kinds of value seen."""

ColumnKinds: TypeAlias = dict[str, dict[str, Paths]]
"""deployment → ``inputs`` or ``outputs`` → paths below it and their kinds."""

_AT_ONCE = 512
_LARGE = 2**63
_KINDS: dict[type, str] = {bool: "bool", str: "text", type(None): "null", list: "json", dict: "json"}
_NUMBERS: dict[type, str] = {int: "int", float: "float"}
_KNOWN = {*_KINDS, *_NUMBERS}
_json = msgspec.json.Encoder()


class Observed:
    r"""Gathers rows of one deployment (`{"inputs": ..., "outputs": ...}`) and the kinds of their values.

    >>> seen = Observed()
    >>> seen.add([{"inputs": {"age": 41, "city": "Bern"}, "outputs": {"predict_proba": {"no": 0.5}}}])
    >>> seen.add([{"inputs": {"age": None}}])
    >>> seen.told()
    '{"inputs":{"age":["int","null"],"city":["text"]},"outputs":{"predict_proba\\u0000no":["float"]}}'
    """

    def __init__(self) -> None:
        self._seen: dict[str, Paths] = {"inputs": {}, "outputs": {}}
        self._rows: list[dict[str, Any]] = []

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take rows in."""
        self._rows += rows
        if len(self._rows) >= _AT_ONCE:
            self._look()

    def told(self) -> str:
        """What was seen, as the text that `merged_kinds` reads."""
        self._look()
        sides = {side: {path: sorted(found) for path, found in paths.items()} for side, paths in self._seen.items()}
        return _json.encode(sides).decode()

    def _look(self) -> None:
        rows, self._rows = self._rows, []
        for side, seen in self._seen.items():
            objects = [row[side] for row in rows if isinstance(row.get(side), dict)]
            _observe(seen, objects, "", deeper=side == "outputs")


def merged_kinds(found: Iterable[tuple[str, str]]) -> ColumnKinds:
    """The kinds of values of each deployment, from its name and each text in the column `columns`."""
    kinds: ColumnKinds = {}
    for deployment, text in found:
        merged_sides = kinds.setdefault(deployment, {"inputs": {}, "outputs": {}})
        for side, paths in msgspec.json.decode(text, type=dict[str, dict[str, set[str]]]).items():
            for path, seen in paths.items():
                merged_sides[side].setdefault(path, set()).update(seen)
    return kinds


def _observe(seen: Paths, objects: Iterable[dict[str, Any]], prefix: str, *, deeper: bool) -> None:
    """Note the kinds of the members of `objects`, those of objects within them too if `deeper`: probabilities by class.

    Objects with the same members are looked at column by column, which takes a fraction of the time.
    """
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for each in objects:
        alike.setdefault(tuple(each), []).append(each)
    for names, group in alike.items():
        for name in names:
            path, column = f"{prefix}{name}", [each[name] for each in group]
            inner = [value for value in column if value and isinstance(value, dict)] if deeper else []
            if inner:
                _observe(seen, inner, f"{path}\0", deeper=False)
                column = [value for value in column if not (value and isinstance(value, dict))]
            if column:
                seen.setdefault(path, set()).update(_kinds_of(column))


def _kinds_of(column: Sequence[Any]) -> Iterable[str]:
    types = set(map(type, column))
    numeric = types & _NUMBERS.keys()
    if not types <= _KNOWN or (numeric and not _ordinary(column, alone=len(types) == len(numeric))):
        return map(_kind, column)
    return chain((_KINDS[each] for each in types - numeric), (_NUMBERS[each] for each in numeric))


def _ordinary(column: Sequence[Any], *, alone: bool) -> bool:
    """Whether no number is infinite, NaN, or too large; `alone`: there is nothing but numbers."""
    numbers = column if alone else [value for value in column if type(value) in _NUMBERS]
    return min(numbers) >= -_LARGE and max(numbers) < _LARGE and math.isfinite(sum(numbers))


def _kind(value: object) -> str:
    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind
    if isinstance(value, int):
        return "int" if -_LARGE <= value < _LARGE else "large"
    return "float" if isinstance(value, float) and math.isfinite(value) else "null"
