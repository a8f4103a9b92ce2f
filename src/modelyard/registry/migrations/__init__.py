"""Steps that bring a database from any earlier release to this one (Alembic)."""
