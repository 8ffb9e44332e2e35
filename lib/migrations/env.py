"""Alembic's connection: the direct URL, one migration at a time, a short wait for locks.

Alembic runs this file; it leaves the application's loggers alone. Two waits can be set:
`alembic -x lock_timeout=1min upgrade head` for a table's lock, `-x turn_seconds=60` for another migration.
"""

from __future__ import annotations

from contextlib import suppress

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from lib.example import models  # noqa: F401  (its tables)
from lib.migrations.report import Report
from lib.migrations.turn import turn
from lib.models import Base
from lib.onetrip.connection.source import direct_url
from lib.onetrip.pool.engines import migration_engine
from lib.onetrip.settings.settings import Settings, settings_or_exit
from lib.onetrip.url.database_url import DatabaseURL
from lib.settings import OWN

LOCK_TIMEOUT = "5s"
# Another migration is waited for as long as it may well take.
TURN_SECONDS = 600.0


def run_offline() -> None:
    """Write the SQL instead of running it."""
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Migrate in one transaction, or in several where a migration says so, and alone from first to last."""
    settings = settings_or_exit(OWN)
    _refuse_pooled_host(settings)
    options = context.get_x_argument(as_dictionary=True)
    lock_timeout = options.get("lock_timeout") or LOCK_TIMEOUT
    url = direct_url(settings)
    with _connect(url) as connection:
        _refuse_pooler(connection, url)
        # No limit for migrations: a role's own limit is meant for requests.
        _set(connection, "statement_timeout", "0")
        with turn(connection, float(options.get("turn_seconds") or TURN_SECONDS)):
            _set(connection, "lock_timeout", lock_timeout)
            report = Report(connection, context.config, lock_timeout)
            context.configure(
                connection=connection,
                target_metadata=Base.metadata,
                compare_server_default=True,
                on_version_apply=report.applied,
            )
            with report.of_failure(), context.begin_transaction():
                context.run_migrations()
            report.end(_wanted())


def _connect(url: DatabaseURL) -> Connection:
    """A connection to the server at `url`; a CommandError of three lines if there is none to be had."""
    try:
        return migration_engine(url).connect()
    except OperationalError as error:
        reason = str(error.orig).partition("\n")[0]
        raise CommandError(
            f"the database cannot be reached: {reason}\n"
            "  Check that the server runs, and that the URL's host, port, user and password are its own.\n"
            "  What exactly is wrong, and the remedy: make doctor"
        ) from error


def _wanted() -> str | None:
    """The revision that the command leads to; None for one that changes nothing."""
    with suppress(KeyError):
        wanted = context.get_revision_argument()
        return wanted if isinstance(wanted, str) else None
    return None


def _set(connection: Connection, name: str, value: str) -> None:
    """Set a parameter for the whole session, since a migration may commit and go on."""
    connection.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})
    connection.commit()


def _refuse_pooled_host(settings: Settings) -> None:
    url = settings.database_url_unpooled
    if url and url.is_pooled:
        raise CommandError(
            f"DATABASE_URL_UNPOOLED: {url.host} is a pooler. Use the direct host, without -pooler."
        )


def _refuse_pooler(connection: Connection, url: DatabaseURL) -> None:
    """Refuse a pooler that its name does not show: the process id it invents gives it away.

    Neon's hosts are told by name alone: its proxy invents one on direct connections too.
    """
    driver = connection.connection.driver_connection
    if url.is_neon or driver is None:
        return
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    connection.commit()
    if pid != driver.info.backend_pid:
        raise CommandError(
            "A pooler answers at this URL. Set DATABASE_URL_UNPOOLED to the server's own address."
        )


if context.is_offline_mode():
    run_offline()
else:
    run_online()
