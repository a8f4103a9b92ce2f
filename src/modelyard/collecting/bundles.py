"""Collecting bundles that no version has: of versions that were removed, or that a killed process never registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import Connection, select

from modelyard.objects import Stored
from modelyard.registry.database import Database
from modelyard.registry.removals import all_of
from modelyard.registry.store import BundleStore
from modelyard.registry.tables import versions

Tell: TypeAlias = Callable[[str, int], None]
"""Called with what is being done and how many of it are done."""

_AT_ONCE = 500


def unused(database: Database, store: BundleStore, before: datetime) -> Iterator[Stored]:
    """Bundles that no version has. What was never registered counts only if it was stored before that moment."""
    kept = list(store.stored())  # before the versions, so that what is registered meanwhile is found to be
    with database.read() as connection:
        removed = {removal.digest for removal in all_of(connection, "model")}
        used = _used(connection, [bundle.name for bundle in kept])
    for bundle in kept:
        if bundle.name not in used and (bundle.name in removed or bundle.at < before):
            yield bundle


def collect(database: Database, store: BundleStore, found: list[Stored], tell: Tell) -> int:
    """Remove those of these bundles that still no version has; how many bytes that freed.

    The files are removed within the transaction that makes sure of it, and registering looks for them within its own:
    one comes after the other.
    """
    freed = 0
    for count, bundle in enumerate(found, 1):
        with database.write() as connection:
            if not _used(connection, [bundle.name]):
                store.remove(bundle.name)
                freed += bundle.bytes
        tell("bundles removed", count)
    return freed


def _used(connection: Connection, digests: list[str]) -> set[str]:
    used: set[str] = set()
    for start in range(0, len(digests), _AT_ONCE):
        wanted = select(versions.c.digest).where(versions.c.digest.in_(digests[start : start + _AT_ONCE]))
        used.update(connection.execute(wanted).scalars())
    return used
