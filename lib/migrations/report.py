"""The report of a migration: the revisions that ran, how far one that failed came, half-made indexes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import CommandError
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError

_LOCK_NOT_AVAILABLE = "55P03"
# One that is being built is not valid yet; one of a partitioned table may never be.
_INVALID_INDEXES = """
    SELECT format('%I.%I', namespace.nspname, index.relname), pg_index.indrelid::regclass::text
    FROM pg_index
    JOIN pg_class AS index ON index.oid = indexrelid
    JOIN pg_namespace AS namespace ON namespace.oid = index.relnamespace
    WHERE NOT indisvalid AND index.relkind = 'i' AND namespace.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS build WHERE build.index_relid = indexrelid)
    ORDER BY 1
"""


class Report:
    """Prints the revisions that run on `connection`, and explains a failure.

    `config.attributes["ran"]` lists the revisions that ran.
    """

    def __init__(self, connection: Connection, config: Config, lock_timeout: str) -> None:
        self._connection = connection
        self._config = config
        self._lock_timeout = lock_timeout
        self._ran: list[str] = []
        config.attributes["ran"] = self._ran
        self._since = time.monotonic()
        self._commits = 0
        self._warned = self._warn_of_indexes()
        event.listen(connection, "commit", self._note_commit)

    def applied(self, ctx: object, step: MigrationInfo, heads: object, run_args: object) -> None:  # noqa: ARG002  (Alembic's call)
        """Print a revision that ran; Alembic calls this after each."""
        now = time.monotonic()
        took, self._since = now - self._since, now
        script: Any = step.up_revision
        direction = "up" if step.is_upgrade else "down"
        self._ran.append(script.revision)
        self._config.print_stdout("%s %s (%s), %.1f s", direction, script.revision, script.doc, took)

    @contextmanager
    def of_failure(self) -> Iterator[None]:
        """Within the block, an error of the database says how far the migration came."""
        try:
            yield
        except DBAPIError as error:
            raise CommandError(self._failure(error)) from error

    def end(self, wanted: str | None) -> None:
        """Print the result of a command that led to `wanted`; nothing if it led nowhere."""
        if wanted and not self._ran:
            self._config.print_stdout(
                "Nothing to do: the schema is at %s", self._revision() or "its beginning"
            )
        self._warn_of_indexes(self._warned)

    def _note_commit(self, _: Connection) -> None:
        self._commits += 1

    def _failure(self, error: DBAPIError) -> str:
        what = str(error.orig).strip() or type(error.orig).__name__
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            what = (
                f"Another session uses what would be changed, and did for longer than {self._lock_timeout}. "
                'Try again, or wait longer for a lock: make migrate ARGS="-x lock_timeout=1min".'
            )
        try:
            self._connection.rollback()
            revision = self._revision() or "its beginning"
            indexes = "".join(f"\n{_remedy(*index)}" for index in self._invalid_indexes())
        except DBAPIError:
            return f"{what}\nThe connection was lost. To see how far it came: python -m alembic current"
        if not self._commits:
            return f"{what}\nAll was rolled back: the schema is at {revision}.{indexes}"
        return (
            f"{what}\nThe schema is at {revision}, and holds a part of what comes next: a migration "
            "committed in between, as for CREATE INDEX CONCURRENTLY. Undo that part by hand before you try "
            f"again. Such a statement is best kept in a migration of its own.{indexes}"
        )

    def _revision(self) -> str | None:
        """The revision that the database is at, by what it has committed."""
        heads = MigrationContext.configure(self._connection).get_current_heads()
        self._connection.rollback()
        return ", ".join(heads) or None

    def _invalid_indexes(self) -> list[tuple[str, str]]:
        found = [(row[0], row[1]) for row in self._connection.execute(text(_INVALID_INDEXES))]
        self._connection.rollback()
        return found

    def _warn_of_indexes(self, known: frozenset[str] = frozenset()) -> frozenset[str]:
        found = self._invalid_indexes()
        for name, table in found:
            if name not in known:
                print(_remedy(name, table), file=sys.stderr)  # noqa: T201  (a program for a terminal)
        return frozenset(name for name, _ in found)


def _remedy(index: str, table: str) -> str:
    return (
        f"The index {index} on {table} is half-made: its CREATE INDEX CONCURRENTLY was cut off. "
        f"Finish it: REINDEX INDEX CONCURRENTLY {index}. Or drop it: DROP INDEX CONCURRENTLY {index}."
    )
