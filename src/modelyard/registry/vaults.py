"""Vaults: the wheels of the environments of a version, kept as the files of a version of data are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from sqlalchemy import delete, insert, select

from modelyard.registry import ledger
from modelyard.registry.database import Database
from modelyard.registry.registry import Version
from modelyard.registry.tables import vaults


@dataclass(frozen=True, slots=True)
class Vault:
    """The digest of a list of wheels, the chunks it is in, and why other wheels are not there, by ``name==version``.

    `size` is that of all wheels in bytes.
    """

    digest: str
    tree: tuple[bytes, ...]
    wheels: int
    size: int
    left_out: dict[str, str]
    by: str
    at: datetime


class Vaults:
    """The vaults of one registry. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, version: Version, vault: Vault, content: Collection[bytes]) -> None:
        """Keep a vault in place of the one that the version had.

        Raises:
            ContentCollected: some of the chunks of it, `content`, are not stored (any more).
        """
        here = (vaults.c.model == version.model) & (vaults.c.number == version.number)
        with self._database.write() as connection:
            ledger.register(connection, {*vault.tree, *content})
            connection.execute(delete(vaults).where(here))
            connection.execute(
                insert(vaults).values(
                    model=version.model,
                    number=version.number,
                    digest=vault.digest,
                    tree=msgspec.msgpack.encode(vault.tree),
                    wheels=vault.wheels,
                    bytes=vault.size,
                    left_out=vault.left_out,
                    by=vault.by,
                    at=vault.at,
                )
            )

    def of(self, version: Version) -> Vault | None:
        """The vault of a version, if it has one."""
        here = (vaults.c.model == version.model) & (vaults.c.number == version.number)
        with self._database.read() as connection:
            row = connection.execute(select(vaults).where(here)).one_or_none()
        if row is None:
            return None
        tree = msgspec.msgpack.decode(row.tree, type=tuple[bytes, ...])
        return Vault(row.digest, tree, row.wheels, row.bytes, row.left_out, row.by, row.at)


def made_now(digest: str, tree: Sequence[bytes], wheels: int, size: int, left_out: dict[str, str], by: str) -> Vault:
    """A vault of this moment."""
    return Vault(digest, tuple(tree), wheels, size, left_out, by, datetime.now(UTC))
