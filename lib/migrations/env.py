"""How Alembic reaches the database: the direct URL, one at a time, never waiting long for a lock.

Alembic runs this file; it leaves the application's loggers alone.
"""

from __future__ import annotations

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, text

from lib.engine import migration_engine
from lib.example.models import Base
from lib.settings import settings_or_exit

LOCK_TIMEOUT = "5s"
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
    if settings.direct_url.is_pooled:
        raise CommandError(
            f"{settings.direct_url.host} is a pooled host. Set DATABASE_URL_UNPOOLED to the direct one."
        )
    with migration_engine(settings).connect() as connection:
        _refuse_pooler(connection)
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


def _refuse_pooler(connection: Connection) -> None:
    """A pooler that the host's name does not show gives itself away by the process id it invents."""
    driver = connection.connection.driver_connection
    if connection.scalar(text("SELECT pg_backend_pid()")) != driver.info.backend_pid:  # type: ignore[union-attr]
        raise CommandError(
            "A pooler answers at this URL. Set DATABASE_URL_UNPOOLED to the server's own address."
        )


if context.is_offline_mode():
    run_offline()
else:
    run_online()
