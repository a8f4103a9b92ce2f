"""Runs: what they were, what can be searched for, and what they read and made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

RUN = sa.String(64)
NAME = sa.String(128)


def upgrade() -> None:
    """Make the tables of runs."""
    op.create_table(
        "runs",
        sa.Column("id", RUN, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.String(80)),
        sa.Column("tree", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    for column in ("name", "state", "started_at"):
        op.create_index(f"ix_runs_{column}", "runs", [column])
    _values()
    _links()


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run"], ["runs.id"], name=f"fk_{table}_run")


def _values() -> None:
    op.create_table(
        "run_values",
        sa.Column("run", RUN, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("number", sa.Float()),
        sa.PrimaryKeyConstraint("run", "kind", "name", name="pk_run_values"),
        _of_run("run_values"),
    )
    op.create_index("ix_run_values_number", "run_values", ["kind", "name", "number"])


def _links() -> None:
    op.create_table(
        "run_data",
        sa.Column("run", RUN, nullable=False),
        sa.Column("dataset", NAME, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("was_read", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run", "dataset", "number", name="pk_run_data"),
        _of_run("run_data"),
        sa.ForeignKeyConstraint(
            ["dataset", "number"],
            ["dataset_versions.dataset", "dataset_versions.number"],
            name="fk_run_data_dataset_number",
        ),
    )
    op.create_index("ix_run_data_version", "run_data", ["dataset", "number"])
    op.create_table(
        "run_versions",
        sa.Column("run", RUN, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("run", "model", "number", name="pk_run_versions"),
        _of_run("run_versions"),
        sa.ForeignKeyConstraint(
            ["model", "number"], ["versions.model", "versions.number"], name="fk_run_versions_model_number"
        ),
    )
    op.create_index("ix_run_versions_version", "run_versions", ["model", "number"])
