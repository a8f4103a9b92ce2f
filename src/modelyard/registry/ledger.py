"""Two counters by which those who register content and those who collect it know of each other.

`registered` grows with every list of files that becomes known, `collected` with every transaction in which chunks
become unknown. All of them are transactions that are alone in writing, so that a counter that has not moved means that
nothing of that kind has happened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from sqlalchemy import Connection, insert, select, update

from modelyard.errors import ContentCollected
from modelyard.registry.tables import chunks, collected_packs, ledger

Counter: TypeAlias = Literal["registered", "collected"]

_AT_ONCE = 500


def count(connection: Connection, counter: Counter) -> int:
    """How far a counter is."""
    found: int = connection.execute(select(ledger.c.value).where(ledger.c.name == counter)).scalar_one()
    return found


def advance(connection: Connection, counter: Counter) -> None:
    """Move a counter on."""
    connection.execute(update(ledger).where(ledger.c.name == counter).values(value=ledger.c.value + 1))


def register(connection: Connection, content: Collection[bytes], since: int | None = None) -> None:
    """What has to happen in every transaction that makes a list of files known, whose chunks are `content`.

    Args:
        connection: The transaction.
        content: Every chunk of the list and of the files in it.
        since: What `collected` was before the first of them was found to be stored; None if that is not known.

    Raises:
        ContentCollected: some of them are not stored any more.
    """
    if since is None or count(connection, "collected") != since:
        _require_stored(connection, list(content))
    advance(connection, "registered")


def require_kept(connection: Connection, packs: Iterable[str]) -> None:
    """Make sure, in the transaction that makes the chunks of these packs known, that none of them was collected.

    Raises:
        ContentCollected: one was, since nobody knew of it for so long.
    """
    wanted = list(packs)
    gone = select(collected_packs.c.name).where(collected_packs.c.name.in_(wanted)).limit(1)
    if wanted and connection.execute(gone).first() is not None:
        raise ContentCollected("what was being stored was taken for a leftover and collected; take the snapshot again")


def condemn(connection: Connection, pack: str) -> bool:
    """Make sure that a pack that nobody knows stays unknown; False where it is known."""
    if connection.execute(select(chunks.c.pack).where(chunks.c.pack == pack).limit(1)).first() is not None:
        return False
    here = collected_packs.c.name == pack
    if connection.execute(select(collected_packs.c.name).where(here)).first() is None:
        connection.execute(insert(collected_packs).values(name=pack, at=datetime.now(UTC)))
    return True


def _require_stored(connection: Connection, content: list[bytes]) -> None:
    there = 0
    wanted = list(dict.fromkeys(content))
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        there += len(connection.execute(select(chunks.c.digest).where(chunks.c.digest.in_(part))).all())
    if there != len(wanted):
        raise ContentCollected(
            f"{len(wanted) - there} pieces of content that were found in the store were collected meanwhile; "
            "take the snapshot again"
        )
