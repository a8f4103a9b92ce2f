"""A parcel: everything that is to be known of versions elsewhere, apart from their content.

Content travels beside it, by digest: chunks of data and of the files of runs, and bundles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, select

from modelyard.datasets.checkout import read_tree
from modelyard.domain.names import Kind, Named, Ref
from modelyard.domain.run import Run
from modelyard.errors import NotFound, Rejected, VersionNotFound
from modelyard.exchange.side import Side
from modelyard.registry.tables import aliases, dataset_sources, dataset_versions, notes, reports, reproductions, tags
from modelyard.registry.vaults import Vaults

FORMAT = 1


class Tag(msgspec.Struct, frozen=True):
    """A tag that somebody gave."""

    key: str
    value: str
    by: str
    at: datetime


class Note(msgspec.Struct, frozen=True):
    """A note that somebody wrote."""

    text: str
    by: str
    at: datetime


class Finding(msgspec.Struct, frozen=True):
    """A parity report or the verdict of a reproduction, as it is kept."""

    at: datetime
    document: bytes


class Data(msgspec.Struct, frozen=True):
    """A version of data. `tree` are the chunks that its list of files is in."""

    name: str
    number: int
    digest: str
    created_at: datetime
    by: str
    note: str
    origin: dict[str, Any]
    facts: bytes
    profile: bytes
    tree: tuple[bytes, ...]
    made_from: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def ref(self) -> str:
        """How it is written where it comes from."""
        return f"{self.name}@{self.number}"


class Recorded(msgspec.Struct, frozen=True):
    """A run. Without files, as of one that was lost, there is no `digest`."""

    run: Run
    digest: str
    tree: tuple[bytes, ...]
    tags: tuple[Tag, ...] = ()
    notes: tuple[Note, ...] = ()


class Wheels(msgspec.Struct, frozen=True):
    """The wheels that are kept of a version. `tree` are the chunks that the list of them is in."""

    digest: str
    tree: tuple[bytes, ...]
    wheels: int
    size: int
    left_out: dict[str, str]
    by: str
    at: datetime


class Model(msgspec.Struct, frozen=True):
    """A version of a model; what is not here is in its bundle."""

    name: str
    number: int
    digest: str
    created_at: datetime
    aliases: tuple[str, ...] = ()
    reports: tuple[Finding, ...] = ()
    reproductions: tuple[Finding, ...] = ()
    tags: tuple[Tag, ...] = ()
    notes: tuple[Note, ...] = ()
    wheels: Wheels | None = None

    @property
    def ref(self) -> str:
        """How it is written where it comes from."""
        return f"{self.name}@{self.number}"


class Parcel(msgspec.Struct, frozen=True):
    """All of it. `asked` are the things that were asked for; the others are there since these need them."""

    format: int
    origin: str
    asked: tuple[str, ...]
    data: tuple[Data, ...]
    models: tuple[Model, ...]
    runs: tuple[Recorded, ...]


def gather(side: Side, refs: Sequence[Named]) -> Parcel:
    """The things that are named and all that they need: runs that made them, data and models that these runs read.

    Raises:
        ModelNotFound, VersionNotFound, AliasNotFound, DatasetNotFound, RunNotFound: there is no such thing.
        Rejected: a run is under way.
    """
    found = _Gathered(side)
    asked = tuple(found.add(named) for named in refs)
    data = sorted(found.data.values(), key=lambda each: each.created_at)
    return Parcel(FORMAT, side.name, asked, tuple(data), tuple(found.models.values()), tuple(found.runs.values()))


def chunks_of(side: Side, parcel: Parcel) -> Iterator[bytes]:
    """Every chunk that a parcel speaks of, each once, list by list."""
    seen: set[bytes] = set()
    store = side.datasets.store
    for digest, tree in trees_of(parcel):
        files = read_tree(digest, tree, store)
        for chunk in (*tree, *(chunk for entry in files.entries for chunk in entry.content.chunks)):
            if chunk not in seen:
                seen.add(chunk)
                yield chunk


def trees_of(parcel: Parcel) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """The lists of files that a parcel speaks of: digest, and the chunks that it is in."""
    yield from ((each.digest, each.tree) for each in parcel.data)
    yield from ((each.digest, each.tree) for each in parcel.runs if each.digest)
    yield from ((each.wheels.digest, each.wheels.tree) for each in parcel.models if each.wheels is not None)


class _Gathered:
    """What was found so far."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self.data: dict[str, Data] = {}
        self.models: dict[str, Model] = {}
        self.runs: dict[str, Recorded] = {}

    def add(self, named: Named) -> str:
        """Add a thing and what it needs; how it is written in full."""
        if named.kind == "data":
            return str(Named("data", self._add_data(named.which)))
        if named.kind == "run":
            return str(Named("run", self._add_run(self._side.runs.run(named.which))))
        return self._add_model(named.which)

    def _add_model(self, which: str) -> str:
        version = self._side.registry.version(which)
        if version.ref in self.models:
            return version.ref
        vault = Vaults(self._side.database).of(version)
        with self._side.database.read() as connection:
            about = _about(connection, "model", version.model, version.number)
            self.models[version.ref] = Model(
                version.model,
                version.number,
                version.digest,
                version.created_at,
                tuple(_aliases(connection, version.model, version.number)),
                tuple(_findings(connection, reports, version.model, version.number)),
                tuple(_findings(connection, reproductions, version.model, version.number)),
                *about,
                wheels=None if vault is None else msgspec.convert(vault, Wheels, from_attributes=True),
            )
        for run in self._side.runs.that_made(version.model, version.number):
            self._add_run(run)
        return version.ref

    def _add_run(self, run: Run) -> str:
        if run.id in self.runs:
            return run.id
        if run.outcome.state == "running":
            raise Rejected(f"the run {run.id} is under way: move it when it has ended")
        digest, tree = self._side.runs.files(run.id) or ("", ())
        with self._side.database.read() as connection:
            self.runs[run.id] = Recorded(run, digest, tree, *_about(connection, "run", run.id, 0))
        for ref in dict.fromkeys((*run.data.versions, *run.data.declared)):
            self._add_if_there("data", ref)
        for ref in run.loaded:
            self._add_if_there("model", ref)
        return run.id

    def _add_if_there(self, kind: Kind, ref: str) -> None:
        """What a run names is kept as long as the run is, unless it was never known here."""
        try:
            self.add(Named(kind, ref))
        except NotFound:
            return

    def _add_data(self, which: str) -> str:
        version = self._side.datasets.version(which)
        if version.ref in self.data:
            return version.ref
        here = (dataset_versions.c.dataset == version.dataset) & (dataset_versions.c.number == version.number)
        sources = dataset_sources.c
        with self._side.database.read() as connection:
            row = connection.execute(select(dataset_versions).where(here)).one_or_none()
            if row is None:
                raise VersionNotFound(version.dataset, version.number)
            of = (sources.dataset == version.dataset) & (sources.number == version.number)
            links = connection.execute(select(sources.source, sources.source_number).where(of)).all()
            about = _about(connection, "data", version.dataset, version.number)
        self.data[version.ref] = Data(
            row.dataset,
            row.number,
            row.digest,
            row.created_at,
            row.by,
            row.note,
            row.origin,
            row.facts,
            row.profile,
            msgspec.msgpack.decode(row.tree, type=tuple[bytes, ...]),
            tuple(f"{link.source}@{link.source_number}" for link in links),
            *about,
        )
        return version.ref


def _about(connection: Connection, kind: Kind, name: str, number: int) -> tuple[tuple[Tag, ...], tuple[Note, ...]]:
    """What people added; tags that are in a bundle travel with it."""
    own = (tags.c.kind == kind) & (tags.c.name == name) & (tags.c.number == number) & ~tags.c.packed
    written = (notes.c.kind == kind) & (notes.c.name == name) & (notes.c.number == number)
    given = connection.execute(select(tags).where(own).order_by(tags.c.key))
    noted = connection.execute(select(notes).where(written).order_by(notes.c.id))
    return (
        tuple(Tag(row.key, row.value, row.by, row.at) for row in given),
        tuple(Note(row.text, row.by, row.at) for row in noted),
    )


def _aliases(connection: Connection, model: str, number: int) -> Iterator[str]:
    here = (aliases.c.model == model) & (aliases.c.number == number)
    yield from connection.execute(select(aliases.c.alias).where(here).order_by(aliases.c.alias)).scalars()


def _findings(connection: Connection, table: Table, model: str, number: int) -> Iterator[Finding]:
    here = (table.c.model == model) & (table.c.number == number)
    for row in connection.execute(select(table.c.at, table.c.document).where(here).order_by(table.c.id)):
        yield Finding(row.at, row.document)


def encode(parcel: Parcel) -> bytes:
    """The form in which a parcel is written."""
    return msgspec.msgpack.encode(parcel)


def decode(raw: bytes) -> Parcel:
    """Read what `encode` wrote, from somebody else.

    Raises:
        Rejected: it is not that, of another format, or names things in a way that is not allowed.
    """
    try:
        number = _FORMATS.decode(raw).format
        if number != FORMAT:
            raise Rejected(
                f"this is of format {number}, and this release reads {FORMAT}: use the release that wrote it"
            )
        parcel = _PARCELS.decode(raw)
    except msgspec.MsgspecError as error:
        raise Rejected(f"this cannot be read as what Modelyard wrote: {error}") from None
    for ref in (*(each.ref for each in parcel.data), *(each.ref for each in parcel.models)):
        if Ref.parse(ref).version is None:
            raise Rejected(f"{ref!r} names no version")
    return parcel


class _Format(msgspec.Struct):
    format: int


_FORMATS = msgspec.msgpack.Decoder(_Format)
_PARCELS = msgspec.msgpack.Decoder(Parcel)
