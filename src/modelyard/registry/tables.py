"""The tables of the metadata database, in words that SQLite and PostgreSQL share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)

SHORT = 64
"""Letters of a text that an index is made of: whole texts may be longer than PostgreSQL's indexes take."""


class UtcTime(TypeDecorator[datetime]):
    """A moment, aware and in UTC on this side, whatever the database keeps."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From UTC; SQLite forgets the zone."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _of_version() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"])


models = Table(
    "models",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(80), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("runtime", String(16), nullable=False),
    Column("tags", JSON, nullable=False),
    UniqueConstraint("model", "digest"),
    ForeignKeyConstraint(["model"], ["models.name"]),
    Index("ix_versions_digest", "digest"),
    Index("ix_versions_created_at", "created_at"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("alias", String(128), primary_key=True),
    Column("number", Integer, nullable=False),
    _of_version(),
    Index("ix_aliases_version", "model", "number"),
)

alias_changes = Table(
    "alias_changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String(128), nullable=False, index=True),
    Column("alias", String(128), nullable=False),
    Column("number", Integer),
    Column("previous", Integer),
    Column("by", String(256), nullable=False),
    Column("why", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_alias_changes_version", "model", "number"),
)

reports = Table(
    "reports",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("what_if", Boolean, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("document", LargeBinary, nullable=False),
    _of_version(),
    Index("ix_reports_version", "model", "number"),
)

vaults = Table(
    "vaults",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(80), nullable=False),
    Column("tree", LargeBinary, nullable=False),
    Column("wheels", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("left_out", JSON, nullable=False),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
    _of_version(),
)

reproductions = Table(
    "reproductions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("verdict", String(32), nullable=False),
    Column("counts", Boolean, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("document", LargeBinary, nullable=False),
    _of_version(),
    Index("ix_reproductions_version", "model", "number"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("model", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("unproven", String),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("generation", Integer, nullable=False),
    _of_version(),
    Index("ix_deployments_version", "model", "number"),
)

deployment_changes = Table(
    "deployment_changes",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("name", String(128), nullable=False),
    Column("model", String(128)),
    Column("number", Integer),
    Column("unproven", String),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_deployment_changes_name", "name", "generation"),
    Index("ix_deployment_changes_version", "model", "number"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment", String(128), nullable=False),
    Column("live", String(128)),
    Column("model", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("before_model", String(128), nullable=False),
    Column("before_number", Integer, nullable=False),
    Column("strategy", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("key", String(128), nullable=False),
    Column("unproven", String),
    UniqueConstraint("live"),
    Index("ix_rollouts_deployment", "deployment", "id"),
    Index("ix_rollouts_version", "model", "number"),
)
"""`live` is the deployment while the rollout is open, and nothing afterwards: so there is one at a time."""

rollout_changes = Table(
    "rollout_changes",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("rollout", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("reason", String, nullable=False),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
    ForeignKeyConstraint(["rollout"], ["rollouts.id"]),
    Index("ix_rollout_changes_rollout", "rollout", "generation"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("dataset", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(80), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("by", String(256), nullable=False),
    Column("note", String, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("origin", JSON, nullable=False),
    Column("facts", LargeBinary, nullable=False),
    Column("profile", LargeBinary, nullable=False),
    Column("tree", LargeBinary, nullable=False),
    UniqueConstraint("dataset", "digest"),
    ForeignKeyConstraint(["dataset"], ["datasets.name"]),
)

chunks = Table(
    "chunks",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("pack", String(64), nullable=False, index=True),
    Column("offset", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
)

removals = Table(
    "removals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("name", String(128), nullable=False),
    Column("number", Integer),
    Column("digest", String(80), nullable=False),
    Column("by", String(256), nullable=False),
    Column("why", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("given_up", JSON, nullable=False),
    Index("ix_removals_thing", "kind", "name", "number"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

collected_packs = Table(
    "collected_packs",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("at", UtcTime, nullable=False),
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("name", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("origin", String, nullable=False),
    Column("origin_ref", String(192), nullable=False),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_arrivals_thing", "kind", "name", "number"),
)
"""What was taken in from elsewhere: where from, and how it is written there. A run has the number 0."""

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("started_at", UtcTime, nullable=False, index=True),
    Column("document", LargeBinary, nullable=False),
    Column("digest", String(80)),
    Column("tree", LargeBinary),
    Column("commit", String(64), index=True),
)


def _of_run() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["run"], ["runs.id"])


run_values = Table(
    "run_values",
    metadata,
    Column("run", String(64), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("name", String(256), primary_key=True),
    Column("text", String, nullable=False),
    Column("number", Float),
    Column("short", String(SHORT), nullable=False),
    _of_run(),
    Index("ix_run_values_number", "kind", "name", "number", "run"),
    Index("ix_run_values_short", "kind", "name", "short", "run"),
)

run_data = Table(
    "run_data",
    metadata,
    Column("run", String(64), primary_key=True),
    Column("dataset", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("was_read", Boolean, nullable=False),
    _of_run(),
    ForeignKeyConstraint(["dataset", "number"], ["dataset_versions.dataset", "dataset_versions.number"]),
    Index("ix_run_data_version", "dataset", "number", "run"),
)

run_versions = Table(
    "run_versions",
    metadata,
    Column("run", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _of_run(),
    _of_version(),
    Index("ix_run_versions_version", "model", "number", "run"),
)

run_models = Table(
    "run_models",
    metadata,
    Column("run", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _of_run(),
    _of_version(),
    Index("ix_run_models_version", "model", "number", "run"),
)
"""Versions that a run loaded, where `run_versions` are those that were packed within it."""

run_snapshots = Table(
    "run_snapshots",
    metadata,
    Column("run", String(64), primary_key=True),
    Column("dataset", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _of_run(),
    ForeignKeyConstraint(["dataset", "number"], ["dataset_versions.dataset", "dataset_versions.number"]),
    Index("ix_run_snapshots_version", "dataset", "number", "run"),
)
"""Versions of data that were taken within a run, where `run_data` are those that it read."""

dataset_sources = Table(
    "dataset_sources",
    metadata,
    Column("dataset", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("source", String(128), primary_key=True),
    Column("source_number", Integer, primary_key=True, autoincrement=False),
    ForeignKeyConstraint(["dataset", "number"], ["dataset_versions.dataset", "dataset_versions.number"]),
    ForeignKeyConstraint(["source", "source_number"], ["dataset_versions.dataset", "dataset_versions.number"]),
    Index("ix_dataset_sources_source", "source", "source_number"),
)
"""Which versions of data were said to be made from which others."""

tags = Table(
    "tags",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("key", String(128), primary_key=True),
    Column("packed", Boolean, primary_key=True),
    Column("value", String, nullable=False),
    Column("short", String(SHORT), nullable=False),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_tags_short", "kind", "key", "short", "name", "number"),
)
"""Tags of versions (``model``), of versions of data (``data``) and of runs (``run``: its id, number 0).

`packed` are those that came with a bundle."""

notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("name", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("text", String, nullable=False),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_notes_of", "kind", "name", "number"),
)
