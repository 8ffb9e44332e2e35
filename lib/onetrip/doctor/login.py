"""Checks that log in, to the server, its direct address and its replica."""

from __future__ import annotations

import time

import psycopg

from ..connection.bounded import BoundedConnection
from ..connection.connector import connect_arguments, connector
from ..connection.source import source_for
from ..errors import DeadlineExceededError, SecretError
from ..url.database_url import DatabaseURL
from .context import Case
from .login_errors import meaning
from .result import Finding, ok, skipped, warning, wrong


def check_login(case: Case) -> Finding:
    """Check that the login works, in the same way as the application logs in."""
    begin = time.perf_counter()
    try:
        connection = connector(BoundedConnection, source_for(case.settings))()
    except (psycopg.Error, SecretError, DeadlineExceededError) as error:
        return wrong(*meaning(error, case.url, case.secrets()))
    milliseconds = (time.perf_counter() - begin) * 1000
    connection.autocommit = True
    case.connection = connection
    return ok(f"role {connection.info.user}, database {connection.info.dbname}, in {milliseconds:.0f} ms")


def check_direct(case: Case) -> Finding:
    """Check that migrations reach the server directly."""
    url = case.direct_url
    if url == case.url and case.is_connected:
        return _direct(case, case.connection, "the URL that requests use")
    if url == case.url and case.failed:
        return skipped(case.failed[0])
    try:
        with connected(url) as connection:
            return _direct(case, connection, f"{url.host or 'this machine'} lets migrations in")
    except psycopg.Error as error:
        says, remedy = meaning(error, url, [*case.secrets()])
        return wrong(f"migrations' URL: {says}", remedy)


def check_replica(case: Case) -> Finding:
    """Check that the replica answers, if there is one."""
    url = case.settings.database_replica_url
    if url is None:
        return ok("none is used")
    try:
        with connected(url) as connection:
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    except psycopg.Error as error:
        says, remedy = meaning(error, url, case.secrets())
        return warning(f"{says}; the primary is read instead", f"DATABASE_REPLICA_URL: {remedy}")
    if row and row[0]:
        return ok(f"{url.host} answers")
    return warning(
        f"{url.host} is no replica but a primary", "Set DATABASE_REPLICA_URL to a replica, or unset it."
    )


def connected(url: DatabaseURL) -> BoundedConnection:
    """Open a connection for a check, in autocommit."""
    return BoundedConnection.connect(**{**connect_arguments(url), "autocommit": True})


def pooler_answers(connection: BoundedConnection, url: DatabaseURL) -> bool:
    """Return True if a pooler answers: it reports a process id of its own to its clients.

    Neon's hosts are recognised by name: its proxy reports its own id on direct connections too.
    """
    if url.is_neon:
        return url.is_pooled
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def _direct(case: Case, connection: BoundedConnection, says: str) -> Finding:
    if not pooler_answers(connection, case.direct_url):
        return ok(says)
    return wrong(
        f"a pooler answers at {case.direct_url.host}, which migrations refuse",
        "Set DATABASE_URL_UNPOOLED to the server's own address.",
    )
