"""Labels from people: values as typed, and whole files of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from modelyard.domain.records import Label
from modelyard.domain.schema import Scalar
from modelyard.errors import InvalidInput

ID_COLUMN, VALUE_COLUMN = "prediction_id", "value"

ReadAs: TypeAlias = Literal["auto", "text"]
"""How a value that was typed is meant: by its look, or as text whatever it looks like."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_WORDS = {"true": True, "True": True, "false": False, "False": False}


def parse_value(text: str, read_as: ReadAs = "auto") -> Scalar:
    """A label as it was typed: a number where JSON would read one, true or false, else the text itself.

    >>> [parse_value(text) for text in ("3", "0.5", "true", "late", "007")]
    [3, 0.5, True, 'late', '007']
    >>> parse_value("3", "text")
    '3'
    """
    if read_as == "text":
        return text
    if text in _WORDS:
        return _WORDS[text]
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    number = float(text) if match["fraction"] else int(text)
    fits = math.isfinite(number) if isinstance(number, float) else -(2**63) <= number < 2**64
    return number if fits else text


def read_file(path: Path, received_ns: int, source: str, read_as: ReadAs = "auto") -> list[Label]:
    """All labels in a CSV or Parquet file with the columns ``prediction_id`` and ``value``; others are ignored.

    An empty unquoted CSV cell, a Parquet null and NaN are labels that say "unknown". The whole file is read and
    checked before anything is returned.

    Raises:
        InvalidInput: the file cannot be read, lacks a column, or has a row without an id or with a value that is
            neither number, text nor boolean. Names column and row (counted from 0).
    """
    ids, values = _columns(_table(path), path)
    convert = _converter(values, path, read_as)
    return [
        Label(prediction_id, convert(value), received_ns, source)
        for prediction_id, value in zip(_texts(ids, path), _python_values(values), strict=True)
    ]


def _table(path: Path) -> Any:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            # Given open: a bare path could also be taken for a folder of partitions.
            with path.open("rb") as file:
                return pq.ParquetFile(file).read()
        return _read_csv(path)
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise InvalidInput(f"cannot read labels from {path}: {reason}") from None


def _read_csv(path: Path) -> Any:
    # All columns as text: what a value means is decided one by one, and 007 is not 7.
    with path.open("rb") as file:
        names = pyarrow.csv.open_csv(file).schema.names
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with path.open("rb") as file:
        parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
        return pyarrow.csv.read_csv(file, convert_options=options, parse_options=parse)


def _columns(table: Any, path: Path) -> tuple[Any, Any]:
    for name in (ID_COLUMN, VALUE_COLUMN):
        if table.column_names.count(name) != 1:
            raise InvalidInput(
                f"{path}: expected one column {name!r}; there are: {', '.join(table.column_names) or 'none'}",
                column=name,
            )
    return table[ID_COLUMN], _plain(table[VALUE_COLUMN])


def _plain(column: Any) -> Any:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _texts(ids: Any, path: Path) -> list[str]:
    ids = _plain(ids)
    if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type) or pa.types.is_string_view(ids.type)):
        raise InvalidInput(f"{path}: column {ID_COLUMN!r}: expected texts, got {ids.type}", column=ID_COLUMN)
    texts: list[str | None] = ids.to_pylist()
    named = [text for text in texts if text]
    if len(named) != len(texts):
        row = next(row for row, text in enumerate(texts) if not text)
        raise InvalidInput(f"{path}: column {ID_COLUMN!r}, row {row}: an id is missing", column=ID_COLUMN, row=row)
    return named


def _converter(values: Any, path: Path, read_as: ReadAs) -> Callable[[Any], Scalar | None]:
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        if path.suffix.lower() in (".parquet", ".pq"):
            return lambda value: value
        return lambda value: None if value is None else parse_value(value, read_as)
    if pa.types.is_floating(kind):
        return lambda value: None if value is None or math.isnan(value) else value
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return lambda value: value
    raise InvalidInput(
        f"{path}: column {VALUE_COLUMN!r}: expected numbers, texts or booleans, got {kind}", column=VALUE_COLUMN
    )


def _python_values(values: Any) -> Iterator[Any]:
    if pa.types.is_float16(values.type):
        values = pc.cast(values, pa.float32())
    for chunk in values.chunks:
        yield from chunk.to_pylist()
