"""What is recorded now: the rows of a Delta table, and those of the segments that are not shipped yet, each once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from modelyard.errors import ModelyardError
from modelyard.records import segments
from modelyard.records.delta import TablesRoot, shown_schema
from modelyard.records.segments import Damage, Scan
from modelyard.records.shipping import DAMAGED, Shipment, damaged, ship

SHIPPED_FIRST = 4 * 1024 * 1024
"""Where more bytes than this are not shipped, a reader ships them before it reads, so that they are decoded once."""

_SMALL = 1024 * 1024


@dataclass(slots=True)
class Recorded:
    """Everything that one table has: a `pyarrow.dataset.Dataset` of what is shipped, and tables of what is not.

    `damage` lists what of the segments could not be read.
    """

    schema: Any
    shipped: Any = None
    tables: list[Any] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)

    def parts(self) -> list[Any]:
        """All of it, as things that DuckDB can read; at least one."""
        import pyarrow as pa

        return [*([] if self.shipped is None else [self.shipped]), pa.concat_tables([self._empty(), *self.tables])]

    def table(self, columns: list[str] | None = None, where: Any = None) -> Any:
        """All of it in memory, or some of its columns, or the rows for which the expression `where` holds."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        names = columns or self.schema.names
        unshipped = pa.concat_tables([self._empty(), *self.tables])
        sources = [*([] if self.shipped is None else [self.shipped]), ds.dataset(unshipped)]
        return pa.concat_tables([source.to_table(columns=names, filter=where) for source in sources])

    def _empty(self) -> Any:
        return self.schema.empty_table()


def recorded(directory: Path, shipment: Shipment, root: TablesRoot | None = None) -> Recorded:
    """What is recorded now.

    Raises:
        Unavailable, Failed: the table of what was shipped cannot be reached or read.
    """
    root = root or TablesRoot.of(directory)
    if _unshipped(directory, shipment, root) > SHIPPED_FIRST:
        _try_to_ship(directory, shipment, root)
    found = Recorded(shown_schema(shipment.schema))
    with ExitStack() as held:
        # First the segments, then the table: one that is gone by then was shipped before, so the table has it.
        files = list(_opened(directory / shipment.folder, held))
        table = root.open(shipment.table)
        for path, file in files:
            read = segments.scan_file(path, file, shipment.reached(table, path))
            seen = {one.offset for one in read.damage} if read is not None else set()
            found.damage += [one for one in damaged(path) if one.offset not in seen]
            _add(found, shipment, path, read)
        for path in sorted((directory / shipment.folder / DAMAGED).glob(f"*{segments.SUFFIX}")):
            whole = segments.scan(path)
            found.damage += whole.damage if whole is not None else ()
        if table is not None:
            with root.reported(shipment.table):
                found.shipped = table.to_pyarrow_dataset(schema=found.schema)
    return found


def unshipped_bytes(directory: Path, shipment: Shipment, table: Any) -> int:
    """Bytes of the segments that `table` does not have yet, as far as their sizes tell."""
    total = 0
    for path in segments.segments(directory / shipment.folder):
        try:
            total += max(0, path.stat().st_size - shipment.reached(table, path))
        except FileNotFoundError:
            continue
    return total


def _unshipped(directory: Path, shipment: Shipment, root: TablesRoot) -> int:
    if not any(True for _ in (directory / shipment.folder).glob(f"[0-9]*{segments.SUFFIX}")):
        return 0
    return unshipped_bytes(directory, shipment, root.open(shipment.table))


def _try_to_ship(directory: Path, shipment: Shipment, root: TablesRoot) -> None:
    try:
        ship(directory, shipment, root)
    except (ModelyardError, OSError):
        # Where it cannot be written, reading takes longer and is not wrong.
        return


def _opened(folder: Path, held: ExitStack) -> Iterator[tuple[Path, IO[bytes]]]:
    for path in segments.segments(folder):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        if _is_small(file):
            # Read at once, so that a thousand small segments do not take a thousand open files.
            with file:
                yield path, BytesIO(file.read())
        else:
            yield path, held.enter_context(file)


def _is_small(file: IO[bytes]) -> bool:
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    return size <= _SMALL


def _add(found: Recorded, shipment: Shipment, path: Path, read: Scan | None) -> None:
    if read is None:
        return
    found.damage += read.damage
    if read.frames.found:
        found.tables.append(shipment.build(path, read.frames.found).cast(found.schema))
