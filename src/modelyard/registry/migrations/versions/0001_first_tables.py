"""Models, versions, aliases, reports and deployments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)
NAME = sa.String(128)
PERSON = sa.String(256)


def upgrade() -> None:
    """Make the first tables."""
    _versions()
    _aliases()
    _reports()
    _deployments()


def _of_version(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["model", "number"], ["versions.model", "versions.number"], name=f"fk_{table}_model_number"
    )


def _versions() -> None:
    op.create_table(
        "models",
        sa.Column("name", NAME, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "versions",
        sa.Column("model", NAME, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("runtime", sa.String(16), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("model", "number", name="pk_versions"),
        sa.UniqueConstraint("model", "digest", name="uq_versions_model_digest"),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_versions_model"),
    )


def _aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("model", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model", "alias", name="pk_aliases"),
        _of_version("aliases"),
    )
    op.create_table(
        "alias_changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("number", sa.Integer()),
        sa.Column("previous", sa.Integer()),
        sa.Column("by", PERSON, nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alias_changes"),
    )
    op.create_index("ix_alias_changes_model", "alias_changes", ["model"])


def _reports() -> None:
    op.create_table(
        "reports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("what_if", sa.Boolean(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        _of_version("reports"),
    )


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("name", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("unproven", sa.String()),
        sa.Column("by", PERSON, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_deployments"),
        _of_version("deployments"),
    )
    op.create_table(
        "deployment_changes",
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("model", NAME),
        sa.Column("number", sa.Integer()),
        sa.Column("unproven", sa.String()),
        sa.Column("by", PERSON, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("generation", name="pk_deployment_changes"),
    )
    op.create_index("ix_deployment_changes_name", "deployment_changes", ["name"])
