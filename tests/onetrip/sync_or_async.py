"""Units of work written once and run both ways: with the sync engine, or with the async one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_reading, async_transaction, reading, transaction
from tests.onetrip.environment import SINGLE_FLIGHT

R = TypeVar("R")
WAYS = ("sync", "async")
# The options of a reading session; the plain driver makes only transactions read-only.
READING: dict[str, Any] = {"postgresql_readonly": True}
if SINGLE_FLIGHT == "on":
    READING["isolation_level"] = "AUTOCOMMIT"


@dataclass(frozen=True)
class Units:
    """Runs sync functions in units of work of `database`, `way` saying over which of its engines."""

    database: Database
    way: str
    _runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    @classmethod
    @contextmanager
    def opened(cls, database: Database, way: str) -> Iterator[Units]:
        """Units of work for the block, all connections closed afterwards."""
        units = cls(database, way)
        with units._runner:
            yield units
            units._run(database.aclose())

    @property
    def is_async(self) -> bool:
        """True if the driver's own objects are the async ones."""
        return self.way == "async"

    def transaction(self, work: Callable[[Session], R]) -> R:
        """Return the result of `work` in a transaction."""
        if not self.is_async:
            with transaction(self.database) as session:
                return work(session)

        async def run() -> R:
            async with async_transaction(self.database) as session:
                return await session.run_sync(work)

        return self._run(run())

    def reading(self, work: Callable[[Session], R]) -> R:
        """Return the result of `work` in a reading session."""
        if not self.is_async:
            with reading(self.database) as session:
                return work(session)

        async def run() -> R:
            async with async_reading(self.database) as session:
                return await session.run_sync(work)

        return self._run(run())

    def session(self, work: Callable[[Session], R]) -> R:
        """Return the result of `work` with a session that begins and ends its own units of work."""
        if not self.is_async:
            with Session(self.database.engine) as session:
                return work(session)

        async def run() -> R:
            async with AsyncSession(self.database.async_engine) as session:
                return await session.run_sync(work)

        return self._run(run())

    def connected(self, work: Callable[[Connection], R], **options: object) -> R:
        """Return the result of `work` with a connection that has the execution `options`."""
        if not self.is_async:
            with self.database.engine.execution_options(**options).connect() as connection:
                return work(connection)

        async def run() -> R:
            async with self.database.async_engine.execution_options(**options).connect() as connection:
                return await connection.run_sync(work)

        return self._run(run())

    def settle(self, result: Any) -> Any:
        """Return the result of the driver's own method, awaited within `work` if the driver is async."""
        return await_only(result) if self.is_async else result

    def _run(self, work: Coroutine[Any, Any, R]) -> R:
        # In this test's context, not the runner's: the deadline is part of it.
        return self._runner.run(work, context=copy_context())
