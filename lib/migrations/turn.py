"""One migration at a time, whatever it commits in between."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

# Any number will do, as long as nothing else in the database uses it.
ADVISORY_LOCK = 7_264_010_532
_POLL_SECONDS = 0.25
_HOLDER = """
    SELECT pid, to_char(backend_start AT TIME ZONE 'UTC', 'HH24:MI:SS "UTC"') FROM pg_locks
    JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) + objid::bigint = :key
"""


@contextmanager
def turn(connection: Connection, wait_seconds: float) -> Iterator[None]:
    """Hold the session's lock for the block; raise `CommandError` if another migration keeps it too long.

    The lock is taken by trying, between transactions. A session that waits for it inside a transaction is
    one that CREATE INDEX CONCURRENTLY of the other migration waits for in turn.
    """
    until, told = time.monotonic() + wait_seconds, False
    while not _taken(connection):
        if time.monotonic() >= until:
            raise CommandError(
                f"Another migration runs{_holder(connection)}, and did for longer than {wait_seconds:g} s. "
                "Nothing was changed. Try again when it is over."
            )
        if not told:
            told = True
            print(f"Another migration runs{_holder(connection)}. Waiting for its end", file=sys.stderr)  # noqa: T201  (a program for a terminal)
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        # A connection that broke has released it.
        with suppress(DBAPIError):
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
            connection.commit()


def _taken(connection: Connection) -> bool:
    taken = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
    connection.commit()
    return bool(taken)


def _holder(connection: Connection) -> str:
    """The server's process that has the lock, as far as this role may see it."""
    holder = connection.execute(text(_HOLDER), {"key": ADVISORY_LOCK}).first()
    connection.commit()
    return f" (server process {holder[0]}, connected since {holder[1]})" if holder else ""
