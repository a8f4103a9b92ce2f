"""The result of a SQL query as a Parquet file. What opens the database is never kept, and never in a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from modelyard.errors import Failed, InvalidRequest

_ROWS_AT_ONCE = 50_000
_SHORTEST_SECRET = 3


def database_of(url: str) -> str:
    """Which database a URL means, without user, password and options.

    >>> database_of("postgresql://ann:secret@db.example.org:5433/flights?sslpassword=too")
    'postgresql://db.example.org:5433/flights'

    Raises:
        InvalidRequest: it is no such URL. It is not repeated in the message.
    """
    parsed = _parsed(url)
    plain = URL.create(parsed.drivername, host=parsed.host, port=parsed.port, database=parsed.database)
    return plain.render_as_string()


def fetch(url: str, query: str, file: Path) -> int:
    """Run `query` in a transaction that is taken back, and write its rows, as they come, to the Parquet `file`.

    Types are those that the driver's values have; where rows differ the wider one, and text where nothing else fits.

    Returns:
        How many rows there are.

    Raises:
        InvalidRequest: the URL cannot be read, or its driver is not installed; the query gives no rows or two columns
            of one name.
        Failed: the database refuses; it is told as the database says it, without what is secret in the URL.
    """
    parsed = _parsed(url)
    parts = file.with_name(f"{file.name}.parts")
    parts.mkdir()
    with _told(parsed), _connected(parsed) as connection:
        schemas = _spool(connection, query, parts)
    schema = _widest(schemas)
    # The same rows give the same pieces of the file wherever they are, so that a later result shares them.
    with pq.ParquetWriter(file, schema, compression="zstd", use_content_defined_chunking=True) as writer:
        rows = 0
        for part in sorted(parts.iterdir()):
            table = _cast(pa.ipc.open_file(part).read_all(), schema)
            writer.write_table(table)
            rows += table.num_rows
            part.unlink()
    parts.rmdir()
    return rows


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidRequest(
            "the database URL cannot be read; it is written such as postgresql://user:password@host:5432/database"
        ) from None


@contextmanager
def _connected(url: URL) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            yield connection.execution_options(stream_results=True, yield_per=_ROWS_AT_ONCE)
            connection.rollback()
    finally:
        engine.dispose()


@contextmanager
def _told(url: URL) -> Iterator[None]:
    """Errors of SQLAlchemy and of the driver as ours, with every secret of the URL made unreadable."""
    try:
        yield
    except NoSuchModuleError:
        raise InvalidRequest(f"databases of the kind {url.drivername!r} are not known to SQLAlchemy here") from None
    except ModuleNotFoundError as error:
        raise InvalidRequest(f"{url.drivername} needs the package {error.name!r}; install it") from None
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
        raise Failed(f"the query failed: {without_secrets(said[0], url)}") from None


def without_secrets(message: str, url: URL) -> str:
    """The message with the URL's password and the values of its options starred out."""
    options = [value for values in url.query.values() for value in ([values] if isinstance(values, str) else values)]
    for secret in sorted([str(url.password or ""), *options], key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            message = message.replace(secret, "***")
    return message


def _spool(connection: Connection, query: str, folder: Path) -> list[pa.Schema]:
    """Write the rows, part by part, each with the types that its own values have."""
    result = connection.exec_driver_sql(query.strip().rstrip(";"))  # as it stands: a colon is no parameter
    if not result.returns_rows:
        raise InvalidRequest("the statement gives no rows; give a SELECT")
    names = list(result.keys())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidRequest(f"the query gives two columns {twice[0]!r}; give every column its own name")
    schemas = [_write(folder / "00000000", names, [])]
    for number, rows in enumerate(result.partitions(), 1):
        schemas.append(_write(folder / f"{number:08}", names, rows))
    return schemas


def _write(file: Path, names: Sequence[str], rows: Sequence[Any]) -> pa.Schema:
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    table = pa.table(dict(zip(names, map(_array, columns), strict=True)))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return table.schema


def _array(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _widest(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One type for each column that the values of all parts fit into."""
    fields = []
    for at, name in enumerate(schemas[0].names):
        kinds = [pa.schema([pa.field("v", schema.field(at).type)]) for schema in schemas]
        try:
            kind = pa.unify_schemas(kinds, promote_options="permissive").field("v").type
        except (pa.ArrowException, TypeError):
            kind = pa.string()
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        return table.cast(schema)
    except pa.ArrowException:
        columns = [
            column if column.type == field.type else pa.array(map(_text, column.to_pylist()), field.type)
            for column, field in zip(table.columns, schema, strict=True)
        ]
        return pa.table(columns, schema=schema)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
