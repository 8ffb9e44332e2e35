"""Units of work: begin, work, commit or roll back; the same in routes, scripts and jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from lib.engine import Database, database

# Objects stay readable after the commit: reading them again would cost a round trip for each.
_SESSION_OPTIONS = {"expire_on_commit": False}


@contextmanager
def transaction(of: Database | None = None) -> Iterator[Session]:
    """A session whose work is committed when the block ends, and rolled back if it raises.

    For a savepoint within it use `with session.begin_nested()`.
    """
    with Session((of or database()).engine, **_SESSION_OPTIONS) as session, session.begin():
        yield session


@asynccontextmanager
async def async_transaction(of: Database | None = None) -> AsyncIterator[AsyncSession]:
    """`transaction` for async code."""
    async with (
        AsyncSession((of or database()).async_engine, **_SESSION_OPTIONS) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def reading(of: Database | None = None) -> Iterator[Session]:
    """A session that the server refuses any write (SQLSTATE 25006)."""
    engine = (of or database()).engine.execution_options(**_READ_OPTIONS)
    with Session(engine, **_SESSION_OPTIONS) as session:
        yield session


@asynccontextmanager
async def async_reading(of: Database | None = None) -> AsyncIterator[AsyncSession]:
    """`reading` for async code."""
    engine = (of or database()).async_engine.execution_options(**_READ_OPTIONS)
    async with AsyncSession(engine, **_SESSION_OPTIONS) as session:
        yield session


_READ_OPTIONS = {"postgresql_readonly": True}
