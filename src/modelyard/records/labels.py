"""Labels from people: values as typed, and whole files of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from modelyard.domain.known import known_ns
from modelyard.domain.records import key_text
from modelyard.domain.schema import Scalar
from modelyard.errors import InvalidInput
from modelyard.records.batches import BATCH_SCHEMA, kind_of, text_of

ID_COLUMN, VALUE_COLUMN, KNOWN_COLUMN = "prediction_id", "value", "known_at"

ReadAs: TypeAlias = Literal["auto", "text"]
"""How a value that was typed is meant: by its look, or as text whatever it looks like."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_WORDS = {"true": True, "True": True, "false": False, "False": False}


@dataclass(frozen=True, slots=True)
class FileForm:
    """Which columns of a file say what.

    Rows are named by the column `id_column`, or, where there are `key` columns, by their values in `deployment`.
    `known_at` is the column with the moments at which labels became known; None: ``known_at``, if there is one.
    """

    value: str = VALUE_COLUMN
    id_column: str = ID_COLUMN
    deployment: str = ""
    key: tuple[str, ...] = ()
    known_at: str | None = None
    read_as: ReadAs = "auto"


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


def read_file(path: Path, form: FileForm | None = None) -> Any:
    """All labels in a CSV or Parquet file as a table (`batches.BATCH_SCHEMA`); columns not in `form` are ignored.

    An empty unquoted CSV cell, a Parquet null and NaN are labels that say "unknown". The whole file is read and
    checked before anything is returned.

    Raises:
        InvalidInput: the file cannot be read, lacks a column, or has a row without an id or key, or with a value that
            is neither number, text nor boolean. Names column and row (counted from 0).
    """
    form = form or FileForm()
    return labels_in_table(_table(path), form, str(path), typed=path.suffix.lower() in (".parquet", ".pq"))


def labels_in_table(table: Any, form: FileForm, where: str, *, typed: bool = True) -> Any:
    """The labels of an Arrow table, as `read_file` gives those of a file; `where` is its name in errors.

    `typed` says that texts are meant as texts; otherwise what looks like a number is one (see `parse_value`).

    Raises:
        InvalidInput: as for `read_file`.
    """
    rows = table.num_rows
    nothing = pa.repeat(pa.scalar("", pa.string()), rows)
    if form.key:
        parts = [_key_part(_column(table, name, where), name, where) for name in sorted(form.key)]
        key = pc.binary_join_element_wise("{", pc.binary_join_element_wise(*parts, ","), "}", "")
        ids, deployment = nothing, pa.repeat(pa.scalar(form.deployment, pa.string()), rows)
    else:
        ids = _texts(_column(table, form.id_column, where), form.id_column, where)
        key = deployment = nothing
    value, kind = _values(_column(table, form.value, where), form, where, typed=typed)
    columns = [ids, deployment, key, value, kind, _known(table, form, where)]
    return pa.table([_chunked(column) for column in columns], schema=BATCH_SCHEMA)


def _chunked(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


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


def _column(table: Any, name: str, where: str) -> Any:
    if table.column_names.count(name) != 1:
        raise InvalidInput(
            f"{where}: expected one column {name!r}; there are: {', '.join(table.column_names) or 'none'}", column=name
        )
    column = table[name]
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _texts(ids: Any, name: str, where: str) -> Any:
    if not _is_text(ids.type):
        raise InvalidInput(f"{where}: column {name!r}: expected texts, got {ids.type}", column=name)
    return _all_there(ids.cast(pa.string()), name, "an id is missing", where)


def _all_there(texts: Any, name: str, missing: str, where: str) -> Any:
    there = pc.fill_null(pc.not_equal(texts, ""), False)
    if not pc.all(there).as_py() and len(there):
        row = pc.index(there, False).as_py()
        raise InvalidInput(f"{where}: column {name!r}, row {row}: {missing}", column=name, row=row)
    return texts


def _key_part(column: Any, name: str, where: str) -> Any:
    """A column of the key as ``"name":"value"``, the way `domain.records.key_of` writes it."""
    head = msgspec.json.encode(name).decode() + ":"
    kind = column.type
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InvalidInput(f"{where}: column {name!r}: expected texts, numbers or booleans, got {kind}", column=name)

    def written(value: Any) -> str | None:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        return head + msgspec.json.encode(key_text(value)).decode()

    return _all_there(_mapped(column, written, pa.string()), name, "a part of the key is missing", where)


def _mapped(column: Any, change: Callable[[Any], Any], kind: Any) -> Any:
    """`column` with each different value changed once: labels have few, and keys do not have many."""
    encoded = _chunked(column).dictionary_encode()
    changed = pa.array([change(value) for value in encoded.dictionary.to_pylist()], kind)
    return changed.take(encoded.indices)


def _values(values: Any, form: FileForm, where: str, *, typed: bool) -> tuple[Any, Any]:
    convert = _converter(values.type, form, where, typed=typed)
    if pa.types.is_float16(values.type):
        values = pc.cast(values, pa.float32())
    if pa.types.is_null(values.type):
        values = values.cast(pa.string())
    encoded = _chunked(values).dictionary_encode()
    known = [convert(value) for value in encoded.dictionary.to_pylist()]
    texts = pa.array(map(text_of, known), pa.string()).take(encoded.indices)
    kinds = pa.array(map(kind_of, known), pa.string()).take(encoded.indices)
    return texts, pc.fill_null(kinds, kind_of(None))


def _converter(kind: Any, form: FileForm, where: str, *, typed: bool) -> Callable[[Any], Scalar | None]:
    if _is_text(kind):
        return lambda value: value if typed or value is None else parse_value(value, form.read_as)
    if pa.types.is_floating(kind):
        return lambda value: None if value is None or math.isnan(value) else value
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return lambda value: value
    raise InvalidInput(
        f"{where}: column {form.value!r}: expected numbers, texts or booleans, got {kind}", column=form.value
    )


def _known(table: Any, form: FileForm, where: str) -> Any:
    """When each label became known, in nanoseconds since 1970; 0 where that is not said."""
    name = form.known_at or KNOWN_COLUMN
    if form.known_at is None and KNOWN_COLUMN not in table.column_names:
        return pa.repeat(pa.scalar(0, pa.int64()), table.num_rows)
    column = _column(table, name, where)
    if pa.types.is_timestamp(column.type):
        return pc.fill_null(_chunked(column).cast(pa.timestamp("ns", column.type.tz), safe=False).cast(pa.int64()), 0)
    try:
        found = _mapped(column, lambda value: 0 if value is None else known_ns(value), pa.int64())
    except InvalidInput as error:
        raise InvalidInput(f"{where}: column {name!r}: {error}", column=name) from None
    return pc.fill_null(found, 0)
