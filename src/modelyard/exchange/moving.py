"""Straight from one home to another: only content that is not there yet is moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from modelyard.bundle.layout import Bundle
from modelyard.bundle.trust import require_trust
from modelyard.datasets.packs import Place
from modelyard.domain.names import Named
from modelyard.exchange.arriving import Arrival, Terms, arrive, require_wanted
from modelyard.exchange.parcel import Parcel, chunks_of, gather
from modelyard.exchange.side import Side, Tell, silent
from modelyard.registry.again import again

_AT_ONCE = 2000
_NEAR_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Moved:
    """What arrived, and how many bytes of content had to be moved for it."""

    arrivals: tuple[Arrival, ...]
    bytes: int


def move(
    source: Side,
    target: Side,
    refs: Sequence[Named],
    terms: Terms,
    *,
    trusted: bool = True,
    tell: Tell = silent,
) -> Moved:
    """Bring the things that are named, and all that they need, from one home to the other.

    Everything is checked on its way: chunks and lists of files by their digests, bundles file by file. It can be
    stopped at any moment and done again: what has arrived is not moved again.

    Args:
        source: Where they are.
        target: Where they go.
        refs: Which.
        terms: How they are taken in.
        trusted: Whether models may arrive that run code of their own when they are loaded.
        tell: Called with how far it is.

    Raises:
        NotFound: there is no such thing.
        Conflict: something was removed in the target, or another run has the same id.
        PolicyDenied: a model holds code, and the source is not trusted.
        DataDamaged, BundleRefused: content is not what was stored.
    """
    parcel = gather(source, refs)
    require_wanted(target, parcel, terms)

    def bundle(digest: str) -> Bundle:
        found = source.registry.store.open(digest)
        if not target.registry.holds(digest):
            require_trust(found.manifest, trusted=trusted)
        tell("bundles checked", 1)
        return found

    if not trusted:
        for model in parcel.models:
            bundle(model.digest)
    moved = 0

    def once() -> tuple[Arrival, ...]:
        nonlocal moved
        moved += _copy_chunks(source, target, parcel, tell)
        return arrive(target, parcel, bundle, terms)

    arrived = again(once)
    return Moved(arrived, moved)


def _copy_chunks(source: Side, target: Side, parcel: Parcel, tell: Tell) -> int:
    """Store in the target what it lacks; how many bytes that were."""
    store = source.datasets.store
    moved = 0
    with target.datasets.store.writer() as writer:
        for digests in _parts(chunks_of(source, parcel)):
            lacking = target.datasets.store.lacking(digests)
            places = store.index.find(lacking)
            ordered = sorted(lacking, key=lambda digest: places.get(digest, Place("", 0, 0)))
            for part in _near(ordered, places):
                near = store.near(places[digest] for digest in part if digest in places)
                writer.put((digest, bytes(store.read(digest, places.get(digest), near=near))) for digest in part)
                moved += sum(places[digest].size for digest in part)
                tell("bytes moved", moved)
    return moved


def _parts(digests: Iterator[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    for digest in digests:
        part.append(digest)
        if len(part) >= _AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _near(digests: Sequence[bytes], places: Mapping[bytes, Place]) -> Iterator[list[bytes]]:
    """As many at once as fit into memory well."""
    part: list[bytes] = []
    size = 0
    for digest in digests:
        part.append(digest)
        size += places[digest].size if digest in places else 0
        if size >= _NEAR_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
