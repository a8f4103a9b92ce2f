"""Alembic's entrance: runs the steps on the connection, inside the transaction, that the registry hands over."""

from alembic import context

from modelyard.registry.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
