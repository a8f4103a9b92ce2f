"""What the registry says of a version of data, and what it is told of a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard.datasets.facts import Facts, Profile
from modelyard.datasets.tree import Tree
from modelyard.domain.names import Ref, check_name
from modelyard.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One version of a dataset. `bytes` is the size of its files; `origin` says where they came from."""

    dataset: str
    number: int
    digest: str
    created_at: datetime
    by: str
    note: str
    files: int
    bytes: int
    origin: Mapping[str, Any]
    facts: Facts

    @property
    def ref(self) -> str:
        """How it is written: ``flights@2``."""
        return f"{self.dataset}@{self.number}"


@dataclass(frozen=True, slots=True)
class Draft:
    """All that is to be registered as a version. `tree_chunks` is where the list of files is stored.

    `made_from` are the versions of data that this one is said to be made from.
    """

    tree: Tree
    tree_chunks: tuple[bytes, ...]
    origin: Mapping[str, Any]
    facts: Facts
    profile: Profile
    by: str = ""
    note: str = ""
    made_from: tuple[DatasetVersion, ...] = ()

    def content(self) -> set[bytes]:
        """Every chunk of it."""
        return self.tree.chunks().union(self.tree_chunks)


def dataset_ref(ref: str) -> tuple[str, int | None]:
    """The dataset and the number in a reference to a version of data; None for the newest.

    Raises:
        InvalidRequest: it is none.

    >>> dataset_ref("flights@2"), dataset_ref("flights")
    (('flights', 2), ('flights', None))
    """
    name = ref.partition("@")[0]
    check_name(name, "dataset")
    parsed = Ref.parse(ref)
    if parsed.alias is not None:
        raise InvalidRequest(f"{ref!r}: versions of data have numbers only, such as {name}@1")
    return parsed.model, parsed.version
