"""Tables as CSV, as MLflow's scoring protocol takes them: a line with the names of the columns, then one a row.

The schema says what a cell is. An empty cell is missing, whatever the column's kind, and so is ``NaN`` in a column of
numbers; whatever else is no value of its column is refused by name. For a model of one array the names do not matter.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

from modelyard.domain.frame import Frame
from modelyard.domain.schema import Column, Kind
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol.table import TableReader, named_twice

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_WORDS = {"nan": float("nan"), "inf": float("inf"), "+inf": float("inf"), "-inf": float("-inf")}
_TRUTHS = {"true": True, "false": False}
_SIGNS, _SIGNS_OF_INTEGERS = frozenset("0123456789+-.eE"), frozenset("0123456789+-")
_EXACT_DIGITS = 15
"""Whole numbers of so many digits are exact as doubles too."""

_INFINITE = (float("inf"), float("-inf"))


def read_table(body: bytes, reader: TableReader) -> Frame:
    r"""Rows of a table.

    Raises:
        InvalidRequest: when it is not CSV in UTF-8, or has no line of names.
        InvalidInput: when rows do not fit the schema, naming the column, the row and the value.

    >>> from modelyard.domain.schema import Schema
    >>> schema = Schema("dataframe", (Column("temp", Kind.FLOAT64, nullable=True, dtype="float64"),), ())
    >>> read_table(b"temp\n21.5\nNaN\n", TableReader(schema))["temp"].values.tolist()
    [21.5, nan]
    """
    names, rows = _table(body)
    single = reader.single
    if single is not None:
        cells = [_values(row, single.column) for row in rows]
        return reader.matrix(cells if single.column.shape else [_only(row) for row in cells])
    if "" in names:
        raise InvalidInput("the first line names a column with nothing; write the table without its index")
    # By position: to take so many rows apart at once would make an iterator of each.
    table = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    known = reader.by_name
    return reader.columns(
        {name: _values(texts, known[name].column) if name in known else texts for name, texts in table.items()}
    )


def described(body: bytes) -> list[dict[str, Any]]:
    r"""The rows of a table, read without a schema: cells that look like numbers or truths are such.

    Raises:
        InvalidRequest, InvalidInput: when it is not a table.

    >>> described(b"temp,city\n21.5,Bern\n")
    [{'temp': 21.5, 'city': 'Bern'}]
    """
    names, rows = _table(body)
    return [{name: _guess(text) for name, text in zip(names, row, strict=True)} for row in rows]


def _table(body: bytes) -> tuple[list[str], list[list[str]]]:
    """The names of the columns and the rows, each with as many cells as there are names."""
    try:
        text = body.decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not valid UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise InvalidRequest(f"the body is not valid CSV: {error}") from None
    if not lines:
        raise InvalidRequest("the body is empty; its first line has to name the columns")
    names, *rows = lines
    twice = named_twice(names)
    if twice is not None:
        raise InvalidInput(f"the first line names column {twice[:128]!r} twice", column=twice)
    for row, cells in enumerate(rows):
        if len(cells) != len(names):
            raise InvalidInput(f"row {row}: expected {len(names)} values, got {len(cells)}", row=row)
    return names, rows


def _only(cells: Sequence[Any]) -> Any:
    if len(cells) != 1:
        raise InvalidInput(f"expected one value in a row, got {len(cells)}")
    return cells[0]


def _values(texts: Sequence[str], column: Column) -> list[Any]:
    """The cells of a column as JSON would have them; what is no value of its kind stays a text, for refusal."""
    if column.kind in (Kind.STRING, Kind.DATETIME):
        return [text or None for text in texts]
    if column.kind is Kind.BOOL:
        return [_truth(text) if text else None for text in texts]
    return _plain_numbers(texts, column.kind) or [_number(text) if text else None for text in texts]


def _plain_numbers(texts: Sequence[str], kind: Kind) -> list[Any] | None:
    """Short decimal numbers of a whole column at once; None where there is anything else, or nothing."""
    signs = _SIGNS if kind is Kind.FLOAT64 else _SIGNS_OF_INTEGERS
    if not all(texts) or max(map(len, texts), default=0) > _EXACT_DIGITS or not signs.issuperset("".join(texts)):
        return None
    try:
        read = list(map(float if kind is Kind.FLOAT64 else int, texts))
    except ValueError:
        return None
    return read if all(map(isfinite, read)) else None


def _truth(text: str) -> Any:
    return _TRUTHS.get(text.strip().lower(), text)


def _number(text: str) -> Any:
    plain = text.strip()
    if _WHOLE.fullmatch(plain):
        return int(plain)
    if _NUMBER.fullmatch(plain):
        value = float(plain)
        return text if value in _INFINITE else value  # a number beyond double precision
    return _WORDS.get(plain.lower(), text)


def _guess(text: str) -> Any:
    if not text:
        return None
    number = _number(text)
    return _truth(text) if type(number) is str else number
