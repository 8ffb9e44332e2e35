"""Units of work: begin, work, commit or roll back; the same in routes, scripts and jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from ..connection.dialect import LAST
from ..pool.database import Database, database

# LAST is an execution option for a unit's last statement: the COMMIT goes along with it.
__all__ = ["LAST", "async_reading", "async_transaction", "reading", "transaction"]

Options = Mapping[str, object]
E = TypeVar("E", Engine, AsyncEngine)
_NONE: Options = MappingProxyType({})


class ReadingSession(Session):
    """A session without a transaction."""

    connected: Connection | None = None

    @property
    def is_at_rest(self) -> bool:
        """Whether closing it waits for nothing, since nothing is sent: so but within a stream or COPY."""
        connection = self.connected
        if connection is None or connection.closed or connection.invalidated:
            return True
        driver: Any = connection.connection.driver_connection
        return bool(driver.pgconn.transaction_status == TransactionStatus.IDLE)


@event.listens_for(ReadingSession, "after_begin")
def _note_connection(session: ReadingSession, _transaction: object, connection: Connection) -> None:
    session.connected = connection


# No session here expires its objects on commit: reading each again would cost a round trip.


@contextmanager
def transaction(of: Database | None = None, options: Options = _NONE) -> Iterator[Session]:
    """A session whose work is committed when the block ends, and rolled back if it raises.

    For a savepoint within it use `with session.begin_nested()`. `options` are execution options of all
    that it does, such as `lib.onetrip.connection.dialect.SETTINGS`.
    """
    engine = _with((of or database()).engine, options)
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@asynccontextmanager
async def async_transaction(
    of: Database | None = None, options: Options = _NONE
) -> AsyncIterator[AsyncSession]:
    """`transaction` for async code."""
    engine = _with((of or database()).async_engine, options)
    async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(of: Database | None = None, options: Options = _NONE) -> Iterator[ReadingSession]:
    """A session without a transaction, one round trip a query; any write is refused (SQLSTATE 25006)."""
    engine = _with((of or database()).reading_options_engine, options)
    with ReadingSession(engine, expire_on_commit=False) as session:
        yield session


@asynccontextmanager
async def async_reading(of: Database | None = None, options: Options = _NONE) -> AsyncIterator[AsyncSession]:
    """`reading` for async code."""
    engine = _with((of or database()).async_reading_options_engine, options)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


def _with(engine: E, options: Options) -> E:
    # Even no options at all would make another engine, which costs as much as a query's own work.
    return engine.execution_options(**options) if options else engine
