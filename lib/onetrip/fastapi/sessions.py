"""What routes ask for: the database and sessions on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from ..pool.database import Database
from ..session.session import async_reading, async_transaction, reading, transaction
from .concurrency import entered
from .services import services_of

# Every dependency is async, even one that waits for nothing: FastAPI sends sync ones to a thread each.


async def get_database(request: Request) -> Database:
    """The database that the application was made with."""
    database = services_of(request.app).database
    assert database is not None  # noqa: S101  (`install` was called with one)
    return database


DatabaseDep = Annotated[Database, Depends(get_database)]


async def _session(database: DatabaseDep) -> AsyncIterator[Session]:
    async with database.gate.passed(), entered(transaction(database)) as session:
        yield session


async def _async_session(database: DatabaseDep) -> AsyncIterator[AsyncSession]:
    async with database.gate.passed(), async_transaction(database) as session:
        yield session


async def _read_session(database: DatabaseDep) -> AsyncIterator[Session]:
    async with database.gate.passed(), entered(reading(database)) as session:
        yield session


async def _async_read_session(database: DatabaseDep) -> AsyncIterator[AsyncSession]:
    async with database.gate.passed(), async_reading(database) as session:
        yield session


# Function scope: the transaction commits before the response exists, so a COMMIT that fails becomes
# an error status. With the default scope it would run after a 2xx was sent.
SessionDep = Annotated[Session, Depends(_session, scope="function")]
AsyncSessionDep = Annotated[AsyncSession, Depends(_async_session, scope="function")]
ReadSessionDep = Annotated[Session, Depends(_read_session, scope="function")]
AsyncReadSessionDep = Annotated[AsyncSession, Depends(_async_read_session, scope="function")]
