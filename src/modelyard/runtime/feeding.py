"""How columns become the tensors that a compiled graph takes: by column for many rows, value by value for a single one.

Both give the same tensor for the same row. The second is there because arrays of one element cost more to make and to
join than everything else that is done for a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from modelyard.domain.frame import Array, Vector
from modelyard.domain.manifest import Feed
from modelyard.domain.schema import Column, Schema

Filler: TypeAlias = Callable[[Mapping[str, Vector], int], Array]
"""Makes a tensor from the columns of that many rows."""

RowFiller: TypeAlias = Callable[[tuple[Any, ...]], Array]
"""Makes a tensor from the values of one row, in the order of the schema; see `modelyard.domain.frame.Frame`."""

_Feeder: TypeAlias = Callable[[Vector], Array]


def filler(feeds: Sequence[Feed], schema: Schema, shape: Sequence[Any], notes: Mapping[str, str]) -> Filler:
    """How the columns that share a tensor become it."""
    first = feeds[0]
    if len(feeds) == 1 and first.codes is None:
        column, feeder = first.column, _feeder(first, schema.column(first.column), shape)
        return lambda columns, rows: feeder(columns[column])
    made = [
        (feed.column, _code_feeder(notes[feed.codes]) if feed.codes else _feeder(feed, schema.column(feed.column), ()))
        for feed in feeds
    ]

    def fill(columns: Mapping[str, Vector], rows: int) -> Array:
        parts = [feeder(columns[column]) for column, feeder in made]
        # One row needs no interleaving; for more, each column is written where it belongs.
        joined = np.concatenate(parts)
        if rows == 1:
            return joined.reshape(1, -1)
        return np.ascontiguousarray(joined.reshape(-1, rows).T)

    return fill


def row_filler(feeds: Sequence[Feed], schema: Schema, shape: Sequence[Any], notes: Mapping[str, str]) -> RowFiller:
    """How the values of one row that share a tensor become it. Columns with dimensions have no such way."""
    places = {column.name: at for at, column in enumerate(schema.columns)}
    first = feeds[0]
    alone = len(feeds) == 1 and first.codes is None
    size = (1, *_trailing(schema.column(first.column), shape)) if alone else (1, len(feeds))
    dtype = _entering(first)
    if all(_is_as_it_is(feed) for feed in feeds):
        at = [places[feed.column] for feed in feeds]
        if len(at) == 1:
            [place] = at
            return lambda row: np.array(row[place], dtype).reshape(size)
        pick = itemgetter(*at)
        return lambda row: np.array(pick(row), dtype).reshape(size)
    made = [(places[feed.column], _converter(feed, notes)) for feed in feeds]
    return lambda row: np.array([convert(row[at]) for at, convert in made], dtype).reshape(size)


def _entering(feed: Feed) -> np.dtype[Any]:
    if feed.codes:
        return np.dtype(np.int64)
    return np.dtype(object if feed.dtype == "string" else feed.dtype)


def _is_as_it_is(feed: Feed) -> bool:
    """Whether numpy makes of the value, or of None, just what the graph wants."""
    return feed.missing is None and _entering(feed).kind == "f"


def _converter(feed: Feed, notes: Mapping[str, str]) -> Callable[[Any], Any]:
    if feed.codes:
        return _Codes(notes[feed.codes]).__getitem__
    if feed.dtype == "string":
        return _cleaner(str(feed.missing) if feed.missing is not None else "")
    instead = _instead(feed)
    return lambda value: instead if value is None else value


class _Codes(dict[str | None, int]):
    """Text to number; what is no text counts as its spelling, and what is not known as the number `other`."""

    def __init__(self, note: str) -> None:
        told = json.loads(note)
        super().__init__(told["texts"])
        self[None] = int(told["missing"])
        self.other = int(told["other"])

    def __missing__(self, value: Any) -> int:
        return self.other if isinstance(value, str) else self.get(str(value), self.other)


def _code_feeder(note: str) -> _Feeder:
    """Texts as the numbers by which the graph knows them. A dictionary here is quicker than texts in onnxruntime."""
    number = _Codes(note).__getitem__

    def codes(vector: Vector) -> Array:
        return np.array([number(value) for value in vector.values.tolist()], dtype=np.int64)

    return codes


def _feeder(feed: Feed, column: Column, shape: Sequence[Any]) -> _Feeder:
    """How the values of one column become the tensor the graph wants."""
    trailing = _trailing(column, shape)
    if feed.dtype == "string":
        return _text_feeder(str(feed.missing) if feed.missing is not None else "", trailing)
    dtype = np.dtype(feed.dtype)
    instead = _instead(feed)

    def numbers(vector: Vector) -> Array:
        values = vector.values.astype(dtype, copy=False)
        if vector.missing is not None:
            values = np.where(vector.missing, np.asarray(instead, dtype=dtype), values)
        elif feed.missing is not None:
            values = np.where(vector.is_missing(), np.asarray(instead, dtype=dtype), values)
        return values.reshape(len(values), *trailing)

    return numbers


def _instead(feed: Feed) -> Any:
    """What enters where a number is missing."""
    if feed.missing is not None:
        return feed.missing
    return np.nan if np.dtype(feed.dtype).kind == "f" else 0


def _trailing(column: Column, shape: Sequence[Any]) -> tuple[int, ...]:
    """Dimensions after the rows: those of the column, and of a plain column 1 where the graph wants a matrix."""
    if column.shape:
        return tuple(size if size >= 0 else -1 for size in column.shape)
    return (1,) if len(shape) == 2 else ()


def _text_feeder(missing: str, trailing: tuple[int, ...]) -> _Feeder:
    """Texts with `missing` for None. A text that equals it, or that is not Unicode, becomes one that no model knows."""
    clean = _cleaner(missing)

    def texts(vector: Vector) -> Array:
        values = vector.values
        listed = values.ravel().tolist()
        for value in listed:
            if not isinstance(value, str) or not value.isascii() or value == missing:
                break
        else:
            return values.reshape(len(values), *trailing)
        cleaned = np.empty(len(listed), dtype=object)
        cleaned[:] = [clean(value) for value in listed]
        return cleaned.reshape(len(values), *trailing)

    return texts


def _cleaner(missing: str) -> Callable[[Any], str]:
    """Any value as a text for a graph, `missing` for None; see `_text_feeder`."""

    def clean(value: Any) -> str:
        if value is None:
            return missing
        text = str(value)
        if text == missing and missing:
            return missing + "?"
        if text.isascii():
            return text
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    return clean
