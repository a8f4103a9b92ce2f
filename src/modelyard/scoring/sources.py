"""Tables on disk, read in pieces: CSV as it is written, Parquet as it is typed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from modelyard.bundle.cells import expected, has_zone
from modelyard.domain.schema import Column, Kind, Schema
from modelyard.errors import InvalidInput, InvalidRequest, NotOffered

FORMATS = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".pq": "parquet"}
"""What a file's name ends with, and what is then in it."""

_CSV_BLOCK = 4 * 2**20


class Source(Protocol):
    """A table that is read once, in pieces."""

    names: Sequence[str]
    """Its columns."""

    def pieces(self) -> Iterator[pa.Table]:
        """The rows in order. Columns of a CSV file are texts as they stand there, or null where a cell is empty."""
        ...

    def typed(self, piece: pa.Table, columns: Sequence[Column]) -> pa.Table:
        """A piece with the values of these columns as their kinds need them.

        Raises:
            InvalidInput: a text that is not such a value, naming column and row of the piece.
        """
        ...

    def share(self) -> float:
        """How much of it has been read, from 0 to 1."""
        ...


def format_of(path: Path) -> str:
    """``csv`` or ``parquet``, by the name of the file.

    Raises:
        NotOffered: for any other.

    >>> format_of(Path("march.csv.gz"))
    'csv'
    """
    for ending, name in FORMATS.items():
        if path.name.lower().endswith(ending):
            return name
    raise NotOffered(f"{path.name}: cannot tell what it is; use a name that ends with {', '.join(FORMATS)}")


@contextmanager
def opened(path: Path, rows: int) -> Iterator[Source]:
    """The table in a file, in pieces of about `rows` rows.

    Raises:
        InvalidRequest: there is no such file, or it is not what its name says.
        NotOffered: a format that is not read.
    """
    kind = format_of(path)
    if not path.is_file():
        raise InvalidRequest(f"there is no file {path}")
    making: Callable[[Path, int], AbstractContextManager[Source]] = _csv if kind == "csv" else _parquet
    with _readable(path), making(path, rows) as source:
        yield source


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what pyarrow says about a damaged file into one of our errors."""
    try:
        yield
    except (pa.ArrowException, EOFError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidRequest(f"{path} cannot be read as {format_of(path)}: {said}") from error


class _ParquetSource:
    def __init__(self, file: Any, rows: int) -> None:
        self.names: Sequence[str] = file.schema_arrow.names
        self._file, self._rows, self._done = file, rows, 0

    def pieces(self) -> Iterator[pa.Table]:
        for batch in self._file.iter_batches(batch_size=self._rows):
            self._done += batch.num_rows
            yield pa.Table.from_batches([batch])
        if not self._done:
            yield self._file.schema_arrow.empty_table()

    def typed(self, piece: pa.Table, columns: Sequence[Column]) -> pa.Table:
        return piece

    def share(self) -> float:
        return float(self._done / max(self._file.metadata.num_rows, 1))


@contextmanager
def _parquet(path: Path, rows: int) -> Iterator[Source]:
    with pa.parquet.ParquetFile(path, pre_buffer=False) as file:
        yield _ParquetSource(file, rows)


class _CsvSource:
    def __init__(self, reader: Any, rows: int, share: Callable[[], float]) -> None:
        self.names: Sequence[str] = reader.schema.names
        self._reader, self._rows, self.share = reader, rows, share

    def pieces(self) -> Iterator[pa.Table]:
        held: list[Any] = []
        empty = True
        for batch in self._reader:
            held.append(batch)
            if sum(one.num_rows for one in held) >= self._rows:
                yield from self._cut(pa.Table.from_batches(held))
                held, empty = [], False
        if held or empty:
            yield from self._cut(pa.Table.from_batches(held, self._reader.schema))

    def _cut(self, table: pa.Table) -> Iterator[pa.Table]:
        for start in range(0, max(table.num_rows, 1), self._rows):
            yield table.slice(start, self._rows)

    def typed(self, piece: pa.Table, columns: Sequence[Column]) -> pa.Table:
        for column in columns:
            at = piece.column_names.index(column.name)
            values = piece.column(at).combine_chunks()
            piece = piece.set_column(at, column.name, read_texts(values, column))
        return piece


@contextmanager
def _csv(path: Path, rows: int) -> Iterator[Source]:
    with pa.OSFile(str(path)) as raw:
        size = max(raw.size(), 1)
        stream = pa.CompressedInputStream(raw, "gzip") if path.name.lower().endswith(".gz") else raw
        names = _header(path)
        reader = pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
            # In a table of one column an empty line is a row whose value is missing.
            parse_options=pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(names) > 1),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
        with reader:
            yield _CsvSource(reader, rows, lambda: min(raw.tell() / size, 1.0))


def _header(path: Path) -> list[str]:
    """Column names alone: the reader can only be told about types by name."""
    try:
        with pa.input_stream(str(path)) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as lines:
            return next((line for line in csv.reader(lines) if line), [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as csv: {error}") from None


def columns_in(schema: Schema, names: Sequence[str]) -> tuple[Column, ...]:
    """How the columns of a text file are to be read: those of the model by name, and for a model of one array by place.

    >>> row = Column("X", Kind.FLOAT64, nullable=False, dtype="float64", shape=(2,))
    >>> [column.name for column in columns_in(Schema("array", (row,), ()), ["width", "height"])]
    ['width', 'height']
    """
    first = schema.columns[0]
    if schema.layout == "array" and first.name not in names:
        return tuple(Column(name, first.kind, first.nullable, first.dtype) for name in names)
    return tuple(column for column in schema.columns if column.name in names)


def read_texts(texts: Any, column: Column) -> Any:
    """Texts of a CSV file as values that the column's kind can be made of; null stays missing.

    Blanks around numbers are dropped. Integers may be written ``3.0``, as pandas does beside a missing value.

    Raises:
        InvalidInput: naming the column and the first row that is something else.
    """
    if column.shape:
        raise InvalidInput(
            f"column {column.name!r} holds a list of numbers in every row, which CSV cannot; give Parquet",
            column=column.name,
        )
    if column.kind is Kind.STRING:
        return texts
    wanted = _types(column)
    for trimmed in (texts, pc.utf8_trim_whitespace(texts)):
        for target in wanted:
            values = _cast(trimmed, target)
            if values is not None:
                return _finite_as_written(trimmed, values, column)
    row = next(row for row in range(len(texts)) if all(_cast(trimmed.slice(row, 1), to) is None for to in wanted))
    raise _refusal(column, row, texts[row].as_py())


def _types(column: Column) -> list[Any]:
    if column.kind is Kind.BOOL:
        return [pa.bool_()]
    if column.kind is Kind.DATETIME:
        return [pa.timestamp("ns", tz="UTC" if has_zone(column.dtype) else None)]
    if column.kind.is_float:
        return [pa.float64()]
    return [pa.uint64() if column.kind is Kind.UINT64 else pa.int64(), pa.float64()]


def _cast(texts: Any, target: Any) -> Any:
    try:
        return pc.cast(texts, target)
    except pa.ArrowInvalid:
        return None


def _finite_as_written(texts: Any, values: Any, column: Column) -> Any:
    """A number too large for a double must not become infinite; only the word does."""
    if pa.types.is_floating(values.type):
        infinite = pc.is_inf(values)
        if pc.any(infinite).as_py():
            overflown = pc.and_(infinite, pc.match_substring_regex(texts, "[0-9]"))
            if pc.any(overflown).as_py():
                row = pc.index(overflown, True).as_py()
                raise _refusal(column, row, texts[row].as_py())
    return values


def _refusal(column: Column, row: int, text: str) -> InvalidInput:
    return InvalidInput(
        f"column {column.name!r}, row {row}: expected {expected(column.kind)}, got the text {text[:60]!r}",
        column=column.name,
        row=row,
    )
