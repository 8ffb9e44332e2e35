"""Migrations: they make what the models say, and readiness knows them."""

import subprocess
import sys
from pathlib import Path

from lib.revisions import REVISIONS

PROJECT = Path(__file__).parent.parent


def test_the_models_are_what_the_migrations_make(database_url: str) -> None:
    """`alembic check` finds nothing to do on a migrated database, which DATABASE_URL names."""
    assert database_url
    command = [sys.executable, "-m", "alembic", "check"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_migration_is_known() -> None:
    """The list in lib/revisions.py is that of lib/migrations/versions."""
    files = sorted((PROJECT / "lib" / "migrations" / "versions").glob("*.py"))
    assert [file.name.partition("_")[0] for file in files] == list(REVISIONS)
