"""Links both ways, tags and notes; an index for every question of search and lineage."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

NAME = sa.String(128)
MOMENT = sa.DateTime(timezone=True)
SHORT = 64
AT_ONCE = 1000

NEW_INDEXES = (
    ("ix_versions_digest", "versions", ["digest"]),
    ("ix_versions_created_at", "versions", ["created_at"]),
    ("ix_aliases_version", "aliases", ["model", "number"]),
    ("ix_alias_changes_version", "alias_changes", ["model", "number"]),
    ("ix_reports_version", "reports", ["model", "number"]),
    ("ix_deployments_version", "deployments", ["model", "number"]),
    ("ix_deployment_changes_version", "deployment_changes", ["model", "number"]),
)
WIDER_INDEXES = (
    ("ix_deployment_changes_name", "deployment_changes", ["name", "generation"]),
    ("ix_run_values_number", "run_values", ["kind", "name", "number", "run"]),
    ("ix_run_data_version", "run_data", ["dataset", "number", "run"]),
    ("ix_run_versions_version", "run_versions", ["model", "number", "run"]),
)


def upgrade() -> None:
    """Make the tables and indexes, and fill in what is known already."""
    for name, table, columns in NEW_INDEXES:
        op.create_index(name, table, columns)
    for name, table, columns in WIDER_INDEXES:
        op.drop_index(name, table)
        op.create_index(name, table, columns)
    _short_texts()
    _commits()
    _links()
    _tags()
    _packed_tags()


def _short_texts() -> None:
    with op.batch_alter_table("run_values") as table:
        table.add_column(sa.Column("short", sa.String(SHORT), nullable=False, server_default=""))
    op.execute(sa.text(f"UPDATE run_values SET short = substr(text, 1, {SHORT})"))  # noqa: S608 - a number of ours
    with op.batch_alter_table("run_values") as table:
        table.alter_column("short", server_default=None)
    op.create_index("ix_run_values_short", "run_values", ["kind", "name", "short", "run"])


def _commits() -> None:
    op.add_column("runs", sa.Column("commit", sa.String(64)))
    op.create_index("ix_runs_commit", "runs", ["commit"])
    runs = sa.table("runs", sa.column("id"), sa.column("document", sa.LargeBinary()), sa.column("commit"))
    connection, last = op.get_bind(), ""
    while rows := connection.execute(
        sa.select(runs.c.id, runs.c.document).where(runs.c.id > last).order_by(runs.c.id).limit(AT_ONCE)
    ).all():
        last = rows[-1].id
        for row in rows:
            commit = msgspec.msgpack.decode(row.document).get("code", {}).get("commit")
            if commit:
                connection.execute(sa.update(runs).where(runs.c.id == row.id).values(commit=commit))


def _links() -> None:
    op.create_table(
        "run_models",
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("run", "model", "number", name="pk_run_models"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_run_models_run"),
        sa.ForeignKeyConstraint(
            ["model", "number"], ["versions.model", "versions.number"], name="fk_run_models_model_number"
        ),
    )
    op.create_index("ix_run_models_version", "run_models", ["model", "number", "run"])
    op.create_table(
        "run_snapshots",
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("dataset", NAME, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("run", "dataset", "number", name="pk_run_snapshots"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_run_snapshots_run"),
        _of_data("run_snapshots", "dataset", "number"),
    )
    op.create_index("ix_run_snapshots_version", "run_snapshots", ["dataset", "number", "run"])
    op.create_table(
        "dataset_sources",
        sa.Column("dataset", NAME, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("source_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("dataset", "number", "source", "source_number", name="pk_dataset_sources"),
        _of_data("dataset_sources", "dataset", "number"),
        _of_data("dataset_sources", "source", "source_number"),
    )
    op.create_index("ix_dataset_sources_source", "dataset_sources", ["source", "source_number"])


def _of_data(table: str, name: str, number: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [name, number], ["dataset_versions.dataset", "dataset_versions.number"], name=f"fk_{table}_{name}_{number}"
    )


def _tags() -> None:
    op.create_table(
        "tags",
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("packed", sa.Boolean(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("short", sa.String(SHORT), nullable=False),
        sa.Column("by", sa.String(256), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "number", "key", "packed", name="pk_tags"),
    )
    op.create_index("ix_tags_short", "tags", ["kind", "key", "short", "name", "number"])
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("by", sa.String(256), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notes"),
    )
    op.create_index("ix_notes_of", "notes", ["kind", "name", "number"])


def _packed_tags() -> None:
    """Tags of the bundles that there are, so that a search finds them."""
    known = sa.table(
        "versions",
        sa.column("model"),
        sa.column("number"),
        sa.column("created_at", MOMENT),
        sa.column("tags", sa.JSON()),
    )
    tags = sa.table(
        "tags",
        *(sa.column(name) for name in ("kind", "name", "number", "key", "packed", "value", "short", "by")),
        sa.column("at", MOMENT),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(known)).all():
        given = [
            {
                "kind": "model",
                "name": row.model,
                "number": row.number,
                "key": key[:128],
                "packed": True,
                "value": str(value),
                "short": str(value)[:SHORT],
                "by": "",
                "at": row.created_at,
            }
            for key, value in (row.tags or {}).items()
        ]
        if given:
            connection.execute(sa.insert(tags), given)
