"""Part of the application in `make dev`: how its database is prepared, and a command to try."""

PREPARE = "import alembic.config; alembic.config.main(['upgrade', 'head'])"
EXAMPLE = "curl {url}/api/v1/notes"


def made_variables() -> dict[str, str]:
    """Variables that are made at each start, such as a signing key."""
    return {}
