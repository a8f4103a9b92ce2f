"""The Delta tables that records are shipped to: where they lie, how they are opened, what they promise.

They lie in ``tables/`` of the records folder, or below ``MODELYARD_RECORDS_URL`` (``s3://bucket/records``), which any
number of homes may share. Any program that reads Delta tables reads them, also while they are written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.errors import Failed, Unavailable
from modelyard.objects import plain

if TYPE_CHECKING:
    from deltalake import DeltaTable

TABLES = "tables"
"""The folder of the tables, in the records folder."""

RECORDS_URL = "MODELYARD_RECORDS_URL"

_CONFIGURATION: dict[str, str | None] = {
    "delta.checkpointInterval": "50",
    # The log grows by a file a commit: without its end, opening a table would take longer from day to day.
    "delta.logRetentionDuration": "interval 1 days",
    # What compaction replaced stays for readers that have begun.
    "delta.deletedFileRetentionDuration": "interval 1 days",
}


@dataclass(frozen=True, slots=True)
class TablesRoot:
    """The folder or the prefix in an object store below which the tables lie. It may hold a password: not shown.

    >>> TablesRoot("s3://yard/records").address("labels")
    's3://yard/records/labels'
    """

    url: str = field(repr=False)

    @classmethod
    def of(cls, directory: str | Path) -> TablesRoot:
        """That of a records folder."""
        return cls(os.environ.get(RECORDS_URL) or str(Path(directory).absolute() / TABLES))

    @property
    def is_remote(self) -> bool:
        """Whether the tables lie in an object store."""
        return "://" in self.url

    @property
    def shown(self) -> str:
        """The address as it may be told."""
        return plain(self.url) if self.is_remote else self.url

    def address(self, name: str) -> str:
        """Where one table lies."""
        return f"{self.url.rstrip('/')}/{name}"

    def is_there(self, name: str) -> bool:
        """Whether there is a table, or may be one: an object store is not asked."""
        return self.is_remote or (Path(self.address(name)) / "_delta_log").is_dir()

    def open(self, name: str) -> DeltaTable | None:
        """The table as it is now; None where there is none yet.

        Raises:
            Unavailable: the store does not answer.
            Failed: the table cannot be read.
        """
        if not self.is_there(name):
            return None
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        with self.reported(name):
            try:
                return DeltaTable(self.address(name))
            except TableNotFoundError:
                return None

    def make(self, name: str, schema: Any, partitions: tuple[str, ...]) -> DeltaTable:
        """The table as it is now, made first where there is none.

        Raises:
            Unavailable, Failed: see `open`; or it cannot be written.
        """
        there = self.open(name)
        if there is not None:
            return there
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        with self.reported(name):
            if not self.is_remote:
                Path(self.address(name)).mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return DeltaTable.create(
                    self.address(name),
                    stored_schema(schema),
                    mode="ignore",
                    partition_by=list(partitions),
                    configuration=_CONFIGURATION,
                )
            except DeltaError:
                # Of several that make it at once one wins; what counts is that it is there.
                made = self.open(name)
                if made is None:
                    raise
                return made

    @contextmanager
    def reported(self, name: str) -> Iterator[None]:
        """Turns what the library raises into the errors of Modelyard; `CommitFailedError` is let through."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        try:
            yield
        except CommitFailedError:
            raise
        except (DeltaError, OSError) as error:
            words = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            kind = Unavailable if self.is_remote and isinstance(error, OSError) else Failed
            raise kind(
                f"the table {name} at {self.shown} cannot be read or written: {words}; records stay in the log, and "
                "are shipped as soon as it can"
            ) from error


def stored_schema(schema: Any) -> Any:
    """The schema as it is stored: moments say that they are UTC, which every reader of Delta tables understands."""
    import pyarrow as pa

    return pa.schema([_with_zone(part, "UTC") for part in schema])


def shown_schema(schema: Any) -> Any:
    """The schema as it is read back: moments without a zone, which are UTC everywhere in Modelyard."""
    import pyarrow as pa

    return pa.schema([_with_zone(part, None) for part in schema])


def _with_zone(part: Any, zone: str | None) -> Any:
    import pyarrow as pa

    return part.with_type(pa.timestamp("us", zone)) if pa.types.is_timestamp(part.type) else part
