"""Alembic's entrance: runs the steps on the connection, inside the transaction, that the registry hands over."""

from alembic import context

from modelyard.registry.tables import metadata


def run() -> None:
    """Bring the database to the revision that was asked for."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()


if hasattr(context, "config"):  # absent when something other than Alembic imports this file, to read its docstrings
    run()
