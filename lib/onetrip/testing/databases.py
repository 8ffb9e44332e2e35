"""Databases for tests: made from a template on any PostgreSQL, and dropped again."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from ..settings.settings import environment_with
from ..url.database_url import DatabaseURL
from .postgres import LocalPostgres, running

# Durability costs time, and no test pulls the plug.
_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Databases:
    """Databases on the server of `url`, whose user may create them."""

    url: DatabaseURL

    @contextmanager
    def made(self, template: str | None = None) -> Iterator[DatabaseURL]:
        """Make a database, a copy of `template` if one is named, for the block."""
        name = f"test_{uuid4().hex}"
        source = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        self._run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + source)
        try:
            yield replace(self.url, database=name)
        finally:
            self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composed) -> None:
        arguments: Any = self.url.connect_arguments()
        with psycopg.connect(**arguments, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def embedded() -> Iterator[DatabaseURL]:
    """A PostgreSQL of this process's own for the block, gone without a trace afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="onetrip-"))
    # Root cannot run the server, so its user must be able to get there.
    folder.chmod(0o755)
    try:
        with running(LocalPostgres(folder / "postgres", free_port(), _SETTINGS)) as server:
            yield DatabaseURL(user="postgres", host="127.0.0.1", port=server.port, database="postgres")
    finally:
        shutil.rmtree(folder)


def migrate(url: DatabaseURL, project: Path) -> None:
    """Run the migrations of the project in `project`, if it has Alembic, on the database of `url`."""
    if not _has_alembic(project):
        return
    rendered = url.render(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=project,
        # Both, so that no other comes from the project's `.env`.
        env=environment_with(DATABASE_URL=rendered, DATABASE_URL_UNPOOLED=rendered),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"alembic upgrade head: failed.\n{done.stdout}{done.stderr}".rstrip())


def _has_alembic(project: Path) -> bool:
    if (project / "alembic.ini").exists():
        return True
    settings = project / "pyproject.toml"
    return settings.exists() and "alembic" in tomllib.loads(settings.read_text()).get("tool", {})


def free_port() -> int:
    """A port of 127.0.0.1 that is free, and outside the range from which the system hands out any."""
    for port in random.sample(range(15_000, 30_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("127.0.0.1: has no free port among a hundred. Close some programs.")
