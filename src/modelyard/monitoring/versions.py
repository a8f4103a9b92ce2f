"""Versions as monitoring needs them: their schema, their reference profile, what they answer. Kept once opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from modelyard.bundle.layout import Bundle
from modelyard.domain.schema import Schema
from modelyard.errors import ModelyardError
from modelyard.monitoring.counting import Counted
from modelyard.monitoring.influence import influence
from modelyard.registry import Registry
from modelyard.registry.tables import deployment_changes
from modelyard.registry.tables import versions as versions_table


@dataclass(frozen=True, slots=True)
class Known:
    """A version, counted with its own reference."""

    ref: str
    counted: Counted
    made: datetime
    influence: tuple[tuple[str, float], ...] = ()
    """How much each input moves the score; see `modelyard.monitoring.influence`."""
    holdout: Mapping[str, Any] | None = None
    """Truths and answers of rows held out of training, as the bundle has them."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Columns of the reference that are answers."""
        inputs = {column.name for column in self.counted.schema.columns}
        names = [output.name for output in self.counted.schema.outputs]
        found = []
        for column in self.counted.reference.described:
            plain = column.removeprefix("output:") if column not in inputs else ""
            if plain and any(plain == name or plain.startswith(f"{name}[") for name in names):
                found.append(column)
        return tuple(found)

    @property
    def task(self) -> str:
        """``classification``, ``regression`` or empty."""
        return task_of(self.counted.schema)

    @property
    def classes(self) -> tuple[Any, ...]:
        """The possible labels, where they are known."""
        return next((output.classes for output in self.counted.schema.outputs if output.classes), ())


def task_of(schema: Schema) -> str:
    """What kind of model it is, by what its answers mean."""
    roles = {output.role for output in schema.outputs}
    if roles & {"label", "probability"}:
        return "classification"
    return "regression" if "value" in roles else ""


class KnownVersions:
    """Opens versions by the digest of their bundle. One that cannot be opened is not tried again for a while."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[str, Known | None] = {}

    def of(self, digest: str) -> Known | None:
        """The version with that bundle; None where there is none (any more), or it has no profile."""
        if digest not in self._known:
            self._known[digest] = self._open(digest)
        return self._known[digest]

    def counted(self, digest: str) -> Counted | None:
        """What it is counted with."""
        known = self.of(digest)
        return None if known is None else known.counted

    def _open(self, digest: str) -> Known | None:
        table = versions_table.c
        asked = select(table.model, table.number).where(table.digest == digest).order_by(table.model, table.number)
        with self._registry.database.read() as connection:
            row = connection.execute(asked).first()
        if row is None:
            return None
        try:
            version = self._registry.version(f"{row.model}@{row.number}")
            bundle = self._registry.bundle(version)
            profile: Any = bundle.profile()
            if "inputs" not in profile:
                return None
            counted = Counted.of(bundle.manifest.schema, profile)
            return Known(version.ref, counted, version.created_at, _influence(bundle), bundle.holdout())
        except (ModelyardError, LookupError, TypeError, ValueError):
            # Counts of calls are kept all the same; a version without a readable profile has nothing to compare with.
            return None


def _influence(bundle: Bundle) -> tuple[tuple[str, float], ...]:
    """Nothing where it cannot be told: what drifted is then ranked without it."""
    try:
        return tuple(influence(bundle).items())
    except (ModelyardError, LookupError, TypeError, ValueError, OSError):
        return ()


def taken_away(registry: Registry) -> frozenset[str]:
    """Deployments that there were and that were taken away; not those that a server answers for without a registry."""
    table = deployment_changes.c
    newest = select(func.max(table.generation)).group_by(table.name)
    asked = select(table.name).where(table.generation.in_(newest) & table.model.is_(None))
    with registry.database.read() as connection:
        return frozenset(connection.execute(asked).scalars())
