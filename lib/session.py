"""Units of work: begin, work, commit or roll back; the same in routes, scripts and jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from lib.dialect import LAST
from lib.engine import Database, database

# LAST is an execution option for a unit's last statement: the COMMIT goes along with it.
__all__ = ["LAST", "async_reading", "async_transaction", "reading", "transaction"]

Options = Mapping[str, object]
_NONE: Options = MappingProxyType({})

# No session here expires its objects on commit: reading each again would cost a round trip.


@contextmanager
def transaction(of: Database | None = None, options: Options = _NONE) -> Iterator[Session]:
    """A session whose work is committed when the block ends, and rolled back if it raises.

    For a savepoint within it use `with session.begin_nested()`. `options` are execution options of all
    that it does, such as `lib.dialect.SETTINGS`.
    """
    engine = (of or database()).engine.execution_options(**options)
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@asynccontextmanager
async def async_transaction(
    of: Database | None = None, options: Options = _NONE
) -> AsyncIterator[AsyncSession]:
    """`transaction` for async code."""
    engine = (of or database()).async_engine.execution_options(**options)
    async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(of: Database | None = None, options: Options = _NONE) -> Iterator[Session]:
    """A session without a transaction, one round trip a query; any write is refused (SQLSTATE 25006)."""
    of = of or database()
    engine = of.reading_engine.execution_options(**_reading(of), **options)
    with Session(engine, expire_on_commit=False) as session:
        yield session


@asynccontextmanager
async def async_reading(of: Database | None = None, options: Options = _NONE) -> AsyncIterator[AsyncSession]:
    """`reading` for async code."""
    of = of or database()
    engine = of.async_reading_engine.execution_options(**_reading(of), **options)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


def _reading(of: Database) -> dict[str, object]:
    # The plain driver cannot make a single statement read-only, only a transaction.
    options: dict[str, object] = {"postgresql_readonly": True}
    return options | {"isolation_level": "AUTOCOMMIT"} if of.single_flight else options
