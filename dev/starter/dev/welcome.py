"""Part of the application in `make dev`: how its database is prepared, and a command to try."""

PREPARE = "import alembic.config; alembic.config.main(['upgrade', 'head'])"
EXAMPLE = "curl {url}/api/v1/notes"
