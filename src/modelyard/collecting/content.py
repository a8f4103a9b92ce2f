"""Collecting chunks and packs that nothing uses, beside others who store and register.

docs/decisions/0013-collecting-beside-writers.md says why nothing in use can be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, delete, select, update

from modelyard.collecting.living import Living
from modelyard.datasets.packs import PackWriter, Place
from modelyard.datasets.store import ChunkStore
from modelyard.errors import ContentCollected, DataDamaged
from modelyard.registry import ledger
from modelyard.registry.database import Database
from modelyard.registry.tables import chunks

Tell: TypeAlias = Callable[[str, int], None]
"""Called with what is being done and how many of it are done."""

_PACKS_AT_ONCE = 50
_LOOKS = 5
_AT_ONCE = 500
_WORTH_BYTES = 2**20
_WORTH_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class PackState:
    """A pack that is old enough: its size, how many bytes of it are chunks that are known, and how many are in use."""

    name: str
    bytes: int
    known: int
    used: int

    @property
    def is_leftover(self) -> bool:
        """Whether nobody knows it: a killed process left it."""
        return self.known == 0

    @property
    def is_dead(self) -> bool:
        """Whether nothing in it is in use."""
        return self.used == 0

    @property
    def is_worth_rewriting(self) -> bool:
        """Whether at least half of it, and a mebibyte, would be freed by storing what is in use anew.

        >>> PackState("p", 64 * 2**20, 64 * 2**20, 2**20).is_worth_rewriting
        True
        """
        idle = self.bytes - self.used
        return not self.is_dead and idle >= _WORTH_BYTES and idle >= _WORTH_SHARE * self.bytes


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found: packs that nothing uses, and those worth rewriting.

    `kept` bytes are in use; `idle` ones are not, but in packs that are not worth rewriting, `young` ones in packs that
    are left alone.
    """

    dead: tuple[PackState, ...] = ()
    sparse: tuple[PackState, ...] = ()
    young: int = 0
    kept: int = 0
    idle: int = 0

    @property
    def frees(self) -> int:
        """How many bytes collecting would free."""
        return sum(pack.bytes for pack in self.dead) + sum(pack.bytes - pack.used for pack in self.sparse)


@dataclass(slots=True)
class Collected:
    """What was done."""

    packs: int = 0
    rewritten: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)


class Content:
    """The chunks of one home. `before`: packs stored after that moment are left alone."""

    def __init__(self, database: Database, store: ChunkStore, before: datetime, tell: Tell) -> None:
        self._database, self._store, self._before, self._tell = database, store, before, tell
        self._living = Living(database, store)
        self._as_of = -1

    def survey(self) -> Survey:
        """Look at everything; nothing is changed.

        Raises:
            Failed: a list of files is damaged, so that nobody can say what is in use.
        """
        # Packs first: of one that is listed, all chunks are known, or it was left, or its writer is slow.
        stored = list(self._store.packs.stored())
        self._look()
        states = list(self._states({pack.name: pack.bytes for pack in stored if pack.at < self._before}))
        young = self._states({pack.name: pack.bytes for pack in stored if pack.at >= self._before})
        dead = tuple(state for state in states if state.is_dead)
        sparse = tuple(state for state in states if state.is_worth_rewriting)
        others = [state for state in states if not state.is_dead and not state.is_worth_rewriting]
        return Survey(
            dead,
            sparse,
            young=sum(state.bytes - state.used for state in young),
            kept=sum(state.used for state in states),
            idle=sum(state.bytes - state.used for state in others),
        )

    def collect(self, survey: Survey) -> Collected:
        """Carry out what a survey found, as far as it still holds. It can be killed at any moment, and done again."""
        done = Collected()
        for state in survey.dead:
            if state.is_leftover and self._condemned(state):
                self._remove(state, done)
        known = [state for state in survey.dead if not state.is_leftover]
        for start in range(0, len(known), _PACKS_AT_ONCE):
            part = known[start : start + _PACKS_AT_ONCE]
            emptied = self._forget({state.name for state in part})
            for state in part:
                if state.name in emptied:
                    self._remove(state, done)
        self._rewrite(survey.sparse, done)
        return done

    # looking ----------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read the lists of files of all that is registered now and was not read before."""
        with self._database.read() as connection:
            as_of = ledger.count(connection, "registered")
        for done in self._living.look():
            self._tell("lists of files read", done)
        self._as_of = as_of

    def _is_current(self, connection: Connection) -> bool:
        """Whether nothing was registered since the lists of files were read."""
        return ledger.count(connection, "registered") == self._as_of

    def _states(self, old: dict[str, int]) -> Iterator[PackState]:
        names = sorted(old)
        for start in range(0, len(names), _PACKS_AT_ONCE):
            part = names[start : start + _PACKS_AT_ONCE]
            known, used = dict.fromkeys(part, 0), dict.fromkeys(part, 0)
            with self._database.read() as connection:
                rows = _rows(connection, part)
            for row, is_dead in zip(rows, self._living.marks.lacks([row.digest for row in rows]), strict=True):
                known[row.pack] += row.size
                used[row.pack] += 0 if is_dead else row.size
            self._tell("packs looked at", start + len(part))
            for name in part:
                yield PackState(name, old[name], known[name], used[name])

    # deciding again and doing -----------------------------------------------------------------------------------------

    def _condemned(self, state: PackState) -> bool:
        with self._database.write() as connection:
            return ledger.condemn(connection, state.name)

    def _forget(self, packs: set[str]) -> set[str]:
        """Make the chunks of these packs unknown that are still not in use; the packs that are then empty."""
        for _ in range(_LOOKS):
            with self._database.write() as connection:
                if self._is_current(connection):
                    return self._forget_dead(connection, packs)
            self._look()
        return set()  # others register all the time; the next collection will find these packs again

    def _forget_dead(self, connection: Connection, packs: set[str]) -> set[str]:
        rows = _rows(connection, sorted(packs))
        lacks = self._living.marks.lacks([row.digest for row in rows])
        dead = [row.digest for row, is_dead in zip(rows, lacks, strict=True) if is_dead]
        for start in range(0, len(dead), _AT_ONCE):
            connection.execute(delete(chunks).where(chunks.c.digest.in_(dead[start : start + _AT_ONCE])))
        if dead:
            ledger.advance(connection, "collected")
        return packs - {row.pack for row, is_dead in zip(rows, lacks, strict=True) if not is_dead}

    def _rewrite(self, sparse: Sequence[PackState], done: Collected) -> None:
        """Store what is in use of these packs in new ones, and remove them."""
        waiting: list[PackState] = []
        for state in sparse:
            waiting.append(state)
            if sum(each.used for each in waiting) >= 2**26 or len(waiting) >= _PACKS_AT_ONCE:
                self._rewrite_together(waiting, done)
                waiting = []
        if waiting:
            self._rewrite_together(waiting, done)

    def _rewrite_together(self, states: Sequence[PackState], done: Collected) -> None:
        names = {state.name for state in states}
        try:
            emptied = self._moved(names, self._copied(names, done))
        except ContentCollected:  # by another collection at once; the next one will find these packs again
            return
        for state in states:
            if state.name in emptied:
                done.rewritten += 1
                self._remove(state, done, kept=state.used)
            self._tell("packs rewritten", done.rewritten)

    def _copied(self, packs: set[str], done: Collected) -> dict[bytes, Place]:
        """The chunks of these packs that are in use, in new packs that nobody knows yet."""
        with self._database.read() as connection:
            rows = _rows(connection, sorted(packs))
        lacks = self._living.marks.lacks([row.digest for row in rows])
        used = [row for row, is_dead in zip(rows, lacks, strict=True) if not is_dead]
        near = self._store.near(Place(row.pack, row.offset, row.size) for row in used)
        writer = PackWriter(self._store.packs)
        try:
            for row in used:
                place = Place(row.pack, row.offset, row.size)
                try:
                    writer.add(row.digest, self._store.read(row.digest, place, near=near))
                except DataDamaged as error:
                    done.damaged.append(str(error))
            return dict(writer.finish())
        except BaseException:
            writer.abandon()
            raise

    def _moved(self, packs: set[str], places: dict[bytes, Place]) -> set[str]:
        """Make the new places known; the old packs of which nothing is known any more."""
        for _ in range(_LOOKS):
            with self._database.write() as connection:
                if self._is_current(connection):
                    ledger.require_kept(connection, {place.pack for place in places.values()})
                    for digest, place in places.items():
                        here = (chunks.c.digest == digest) & chunks.c.pack.in_(packs)
                        new = {"pack": place.pack, "offset": place.offset}
                        connection.execute(update(chunks).where(here).values(new))
                    return self._forget_dead(connection, packs)
            self._look()
        return set()

    def _remove(self, state: PackState, done: Collected, kept: int = 0) -> None:
        self._store.packs.remove(state.name)
        done.packs += 1
        done.bytes += state.bytes - kept
        self._tell("packs removed", done.packs)


def _rows(connection: Connection, packs: Sequence[str]) -> Sequence[Row[Any]]:
    wanted = select(chunks.c.digest, chunks.c.pack, chunks.c.offset, chunks.c.size)
    return list(connection.execute(wanted.where(chunks.c.pack.in_(packs)).order_by(chunks.c.pack, chunks.c.offset)))
