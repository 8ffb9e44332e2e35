"""How Alembic reaches the database: the direct URL, one at a time, never waiting long for a lock.

Alembic runs this file; it leaves the application's loggers alone. How long to wait for a table's lock
can be said: `alembic -x lock_timeout=1min upgrade head`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from lib.example import models  # noqa: F401  (its tables)
from lib.models import Base
from lib.onetrip.connection.source import direct_url
from lib.onetrip.pool.engines import migration_engine
from lib.onetrip.settings.settings import Settings, settings_or_exit
from lib.onetrip.sqlstate import classify
from lib.onetrip.url.database_url import DatabaseURL

LOCK_TIMEOUT = "5s"
# Another migration is waited for as long as it may well take.
TURN_TIMEOUT = "10min"
LOCK_NOT_AVAILABLE = "55P03"
# Any number will do, as long as nothing else in the database uses it.
ADVISORY_LOCK = 7_264_010_532


def run_offline() -> None:
    """Write the SQL instead of running it."""
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Migrate in one transaction, which holds an advisory lock that a second migration waits for."""
    settings = settings_or_exit()
    _refuse_pooled_host(settings)
    lock_timeout = context.get_x_argument(as_dictionary=True).get("lock_timeout") or LOCK_TIMEOUT
    url = direct_url(settings)
    with migration_engine(url).connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            _refuse_pooler(connection, url)
            # However long it works: a role's own limit is meant for requests.
            _set(connection, "statement_timeout", "0")
            with _waiting(TURN_TIMEOUT, "Another migration runs"):
                _set(connection, "lock_timeout", TURN_TIMEOUT)
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            with _waiting(lock_timeout, "Another session uses what would be changed"):
                _set(connection, "lock_timeout", lock_timeout)
                context.run_migrations()


def _set(connection: Connection, name: str, value: str) -> None:
    """Set a parameter for the whole session, since a migration may commit and go on."""
    connection.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})


@contextmanager
def _waiting(timeout: str, reason: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        fault = classify(error)
        if fault and fault.sqlstate == LOCK_NOT_AVAILABLE:
            raise CommandError(
                f"{reason}, and did for longer than {timeout}. All was rolled back. Try again, "
                'or wait longer for a lock: make migrate ARGS="-x lock_timeout=1min"'
            ) from error
        raise


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
    if connection.scalar(text("SELECT pg_backend_pid()")) != driver.info.backend_pid:
        raise CommandError(
            "A pooler answers at this URL. Set DATABASE_URL_UNPOOLED to the server's own address."
        )


if context.is_offline_mode():
    run_offline()
else:
    run_online()
