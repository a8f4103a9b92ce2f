"""Registering what arrives, once its content is here: numbers, links, what was found out about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Table, insert, select

from modelyard.bundle.layout import Bundle
from modelyard.datasets.checkout import read_tree
from modelyard.datasets.facts import decode_facts
from modelyard.datasets.tree import Tree
from modelyard.domain.names import Kind, Ref
from modelyard.domain.parity import ParityReport
from modelyard.domain.removal import Removal
from modelyard.domain.reproduction import Reproduction
from modelyard.domain.run import Run
from modelyard.errors import Conflict, ContentCollected, DatasetNotFound, Rejected, VersionNotFound
from modelyard.exchange.parcel import Data, Finding, Model, Note, Parcel, Recorded, Tag
from modelyard.exchange.side import Side
from modelyard.registry import removals
from modelyard.registry.dataset_version import Draft
from modelyard.registry.tables import SHORT, arrivals, notes, reports, reproductions, tags
from modelyard.registry.vaults import Vault, Vaults

State: TypeAlias = Literal["new", "there"]

_REPORTS = msgspec.msgpack.Decoder(ParityReport)
_REPRODUCTIONS = msgspec.msgpack.Decoder(Reproduction)


@dataclass(frozen=True, slots=True)
class Terms:
    """How things are taken in.

    `although_removed`: also what was removed here. `with_aliases`: point aliases here as they do there.
    `with_findings`: keep parity reports and reproductions, which count as proofs.
    """

    by: str = ""
    although_removed: bool = False
    with_aliases: bool = False
    with_findings: bool = True


@dataclass(frozen=True, slots=True)
class Arrival:
    """One thing: how it is written there and here, and whether it was here before."""

    kind: Kind
    there: str
    here: str
    state: State


@dataclass(slots=True)
class _Taken:
    arrivals: list[Arrival] = field(default_factory=list)
    names: dict[tuple[Kind, str], str] = field(default_factory=dict)

    def add(self, kind: Kind, there: str, here: str, *, is_new: bool) -> None:
        self.names[kind, there] = here
        self.arrivals.append(Arrival(kind, there, here, "new" if is_new else "there"))


def require_wanted(side: Side, parcel: Parcel, terms: Terms) -> None:
    """Refuse what was removed here, before anything is moved.

    Raises:
        Conflict: listing what was removed, when, by whom and why.
    """
    if terms.although_removed:
        return
    with side.database.read() as connection:
        gone: list[Removal] = []
        for data in parcel.data:
            gone += [one for one in removals.all_of(connection, "data", data.name) if one.digest == data.digest]
        for model in parcel.models:
            gone += [one for one in removals.all_of(connection, "model", model.name) if one.digest == model.digest]
        gone += [found for each in parcel.runs if (found := removals.of_run(connection, each.run.id)) is not None]
    still = [removal for removal in gone if not _is_back(side, removal)]
    if still:
        lines = "\n  ".join(str(removal) for removal in still)
        raise Conflict(f"this was removed in {side.name}; --although-removed brings it back:\n  {lines}")


def arrive(side: Side, parcel: Parcel, bundle: Callable[[str], Bundle], terms: Terms) -> tuple[Arrival, ...]:
    """Register everything in a parcel whose chunks are stored here. Doing it again changes nothing.

    Args:
        side: Where it arrives.
        parcel: What arrives.
        bundle: Gives the bundle of a digest, checked.
        terms: See there.

    Raises:
        ContentCollected: chunks are not here (any more).
        DataDamaged: a list of files is not the one that was recorded.
        Conflict: another run has the same id.
    """
    taken = _Taken()
    for data in parcel.data:
        _take_data(side, data, taken)
    for model in parcel.models:
        _take_model(side, model, bundle, taken)
    for run in parcel.runs:
        _take_run(side, run, parcel.origin, taken)
    _remember(side, parcel, terms, taken)
    for model in parcel.models:
        _add_about(side, "model", taken.names["model", model.ref], model.tags, model.notes)
        if terms.with_findings:
            _add_findings(side, taken.names["model", model.ref], model)
        if terms.with_aliases:
            _point(side, taken.names["model", model.ref], model.aliases, parcel.origin, terms.by)
    for data in parcel.data:
        _add_about(side, "data", taken.names["data", data.ref], data.tags, data.notes)
    for run in parcel.runs:
        _add_about(side, "run", run.run.id, run.tags, run.notes)
    return tuple(taken.arrivals)


def _is_back(side: Side, removal: Removal) -> bool:
    """Whether what was removed is here again, under another number."""
    if removal.kind == "data":
        return side.datasets.having(removal.name, removal.digest) is not None
    return removal.kind == "model" and side.registry.holds(removal.digest)


def _take_data(side: Side, data: Data, taken: _Taken) -> None:
    tree = _tree(side, data.digest, data.tree)
    try:
        facts, profile = decode_facts(data.facts), msgspec.msgpack.decode(data.profile, type=dict[str, dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise Rejected(f"what is said of {data.ref} cannot be read: {error}") from None
    sources = []
    for ref in data.made_from:
        try:
            sources.append(side.datasets.version(taken.names["data", ref]))
        except (KeyError, DatasetNotFound, VersionNotFound):  # it did not come along
            continue
    draft = Draft(tree, data.tree, data.origin, facts, profile, data.by, data.note, tuple(sources))
    version, is_new = side.datasets.register(data.name, draft, number=data.number, at=data.created_at)
    taken.add("data", data.ref, version.ref, is_new=is_new)


def _tree(side: Side, digest: str, chunks: Sequence[bytes]) -> Tree:
    if side.datasets.store.lacking(chunks):
        raise ContentCollected(f"the list of files of {digest} is not in {side.name} (any more)")
    return read_tree(digest, chunks, side.datasets.store)


def _take_model(side: Side, model: Model, bundle: Callable[[str], Bundle], taken: _Taken) -> None:
    found = bundle(model.digest)
    if found.manifest.name != model.name:
        raise Rejected(f"the bundle of {model.ref} is one of {found.manifest.name}")
    known = side.registry.holds(model.digest)
    version = side.registry.register(found, number=model.number, at=model.created_at)
    taken.add("model", model.ref, version.ref, is_new=not known)
    if model.wheels is not None and Vaults(side.database).of(version) is None:
        content = _tree(side, model.wheels.digest, model.wheels.tree).chunks()
        vault = msgspec.convert(model.wheels, Vault, from_attributes=True)
        Vaults(side.database).keep(version, vault, content)


def _take_run(side: Side, recorded: Recorded, origin: str, taken: _Taken) -> None:
    run = _rewritten(recorded.run, taken.names, origin)
    content: set[bytes] = set()
    if recorded.digest:
        content = _tree(side, recorded.digest, recorded.tree).chunks()
    is_new = side.runs.adopt(run, recorded.digest, recorded.tree, content)
    if not is_new:
        there = side.runs.run(run.id)
        if (there.started_at, there.machine) != (run.started_at, run.machine):
            raise Conflict(f"{side.name} has another run {run.id}, started {there.started_at:%Y-%m-%d %H:%M}")
    taken.add("run", run.id, run.id, is_new=is_new)


def _rewritten(run: Run, names: dict[tuple[Kind, str], str], origin: str) -> Run:
    """The run, with versions as they are numbered here; those that did not come along are named in a note only."""
    away: list[str] = []

    def here(kind: Kind, refs: Iterable[str]) -> tuple[str, ...]:
        away.extend(f"{ref} of {origin}" for ref in refs if (kind, ref) not in names)
        return tuple(names[kind, ref] for ref in refs if (kind, ref) in names)

    data = replace(run.data, declared=here("data", run.data.declared), versions=here("data", run.data.versions))
    moved = replace(
        run,
        data=data,
        versions=here("model", run.versions),
        loaded=here("model", run.loaded),
        snapshots=here("data", run.snapshots),
    )
    if not away:
        return moved
    return replace(moved, notes=(*moved.notes, f"also had to do with {', '.join(dict.fromkeys(away))}"))


def _remember(side: Side, parcel: Parcel, terms: Terms, taken: _Taken) -> None:
    """Where things came from, and how they are written there."""
    digests: dict[tuple[Kind, str], str] = {}
    digests |= {("data", each.ref): each.digest for each in parcel.data}
    digests |= {("model", each.ref): each.digest for each in parcel.models}
    digests |= {("run", each.run.id): each.digest for each in parcel.runs}
    rows = []
    for each in taken.arrivals:
        if each.state == "new":
            name, number = _key(each.kind, each.here)
            about = {"digest": digests[each.kind, each.there], "origin": parcel.origin, "origin_ref": each.there}
            rows.append({"kind": each.kind, "name": name, "number": number, "by": terms.by, "at": _now(), **about})
    if rows:
        with side.database.write() as connection:
            connection.execute(insert(arrivals), rows)


def _add_about(side: Side, kind: Kind, ref: str, given: Sequence[Tag], written: Sequence[Note]) -> None:
    """Tags and notes that are not here yet; a tag that is here keeps its value."""
    if not given and not written:
        return
    name, number = _key(kind, ref)
    of = {"kind": kind, "name": name, "number": number}
    with side.database.write() as connection:
        here = [tags.c[key] == value for key, value in of.items()]
        known = set(connection.execute(select(tags.c.key).where(*here, ~tags.c.packed)).scalars())
        for tag in given:
            if tag.key not in known:
                row = {"key": tag.key, "packed": False, "value": tag.value, "short": tag.value[:SHORT]}
                connection.execute(insert(tags).values(**of, **row, by=tag.by, at=tag.at))
        here = [notes.c[key] == value for key, value in of.items()]
        there = {(row.text, row.by, row.at) for row in connection.execute(select(notes).where(*here))}
        for note in written:
            if (note.text, note.by, note.at) not in there:
                connection.execute(insert(notes).values(**of, text=note.text, by=note.by, at=note.at))


def _add_findings(side: Side, ref: str, model: Model) -> None:
    """Parity reports and reproductions that are not here yet, in the order in which they were stored."""
    name, number = _key("model", ref)
    try:
        parity = [(each, _REPORTS.decode(each.document)) for each in model.reports]
        verdicts = [(each, _REPRODUCTIONS.decode(each.document)) for each in model.reproductions]
    except msgspec.MsgspecError as error:
        raise Rejected(f"a report on {model.ref} cannot be read: {error}") from None
    tested = [
        (each, {"digest": found.digest, "passed": found.passed, "what_if": bool(found.overrides)})
        for each, found in parity
    ]
    again = [
        (each, {"digest": found.digest, "verdict": found.verdict, "counts": found.counts}) for each, found in verdicts
    ]
    _add_documents(side, reports, name, number, tested)
    _add_documents(side, reproductions, name, number, again)


def _add_documents(
    side: Side, table: Table, name: str, number: int, found: Sequence[tuple[Finding, dict[str, Any]]]
) -> None:
    if not found:
        return
    with side.database.write() as connection:
        here = (table.c.model == name) & (table.c.number == number)
        known = {(row.at, row.document) for row in connection.execute(select(table).where(here))}
        for each, columns in found:
            if (each.at, each.document) not in known:
                row = {"model": name, "number": number, "at": each.at, "document": each.document, **columns}
                connection.execute(insert(table).values(row))


def _point(side: Side, ref: str, names: Sequence[str], origin: str, by: str) -> None:
    model, number = _key("model", ref)
    known = side.registry.aliases(model)
    for alias in names:
        if known.get(alias) != number:
            side.registry.set_alias(model, alias, number, by=by, why=f"as in {origin}")


def _key(kind: Kind, ref: str) -> tuple[str, int]:
    if kind == "run":
        return ref, 0
    parsed = Ref.parse(ref)
    return parsed.model, parsed.version or 0


def _now() -> datetime:
    return datetime.now(UTC)
