"""The schema's history; run it with `make migrate` or Alembic's own commands."""
