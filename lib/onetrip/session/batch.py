"""Batches: independent statements sent together and answered together, in one round trip.

Each statement is executed by the session as usual, in a greenlet of its own that stops where it would
send. Once all have stopped, they are sent in one pipeline; then each goes on and reads its answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from inspect import isawaitable
from typing import Any

import psycopg
from greenlet import getcurrent, greenlet
from sqlalchemy import Executable, Result
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from ..connection.dialect import DeferredStatement
from ..connection.single_flight import FlightAsyncConnection, FlightConnection

Asked = tuple[Any, Any, Any]


def batch(session: Session, *statements: Executable) -> list[Result[Any]]:
    """The results of independent statements, in their order, after one round trip."""
    # A reading session would give its connection back after the first of them.
    kept: Any = getattr(session, "keeping_connection", nullcontext)
    with kept():
        return _batch(session, *statements)


def _batch(session: Session, *statements: Executable) -> list[Result[Any]]:
    session.flush()
    driver: Any = session.connection().connection.driver_connection
    if not isinstance(driver, FlightConnection | FlightAsyncConnection):
        return [session.execute(statement) for statement in statements]
    deferred = [_deferred(session, statement) for statement in statements]
    asked = [_stopped(one, one.switch()) for one in deferred]
    try:
        _send(driver, asked)
    except psycopg.Error as error:
        failed = next(
            (n for n, (cursor, *_) in enumerate(asked) if not cursor.description and cursor.rowcount < 0), 0
        )
        # SQLAlchemy does with each what it does after an error.
        raise [_raised(one, error) for one in deferred][failed] from error
    return [_stopped(one, one.switch()) for one in deferred]


async def async_batch(session: AsyncSession, *statements: Executable) -> list[Result[Any]]:
    """`batch` for async sessions."""
    return await session.run_sync(batch, *statements)


def _deferred(session: Session, statement: Executable) -> DeferredStatement:
    deferred = DeferredStatement(lambda: session.execute(statement))
    deferred.gr_context = getcurrent().gr_context
    return deferred


def _stopped(deferred: greenlet, given: Any) -> Any:
    """The value that the statement stopped with, after the awaiting that it needed on its way there."""
    while isawaitable(given):
        try:
            value = await_only(given)
        except Exception as error:  # noqa: BLE001  (the statement's to handle)
            given = deferred.throw(error)
        else:
            given = deferred.switch(value)
    return given


def _raised(deferred: greenlet, error: psycopg.Error) -> Exception:
    """The error that SQLAlchemy makes of the driver's."""
    try:
        _stopped(deferred, deferred.throw(error))
    except Exception as raised:  # noqa: BLE001  (it is what was asked for)
        return raised
    return error


def _driver_cursor(cursor: Any) -> Any:
    """The driver's own cursor: SQLAlchemy wraps async ones."""
    driver_cursor = getattr(cursor, "_cursor", cursor)
    if not hasattr(driver_cursor, "message"):
        raise psycopg.NotSupportedError(
            "a batch reads whole results. Run a statement with stream_results, yield_per or a cursor of "
            "another class by itself"
        )
    return driver_cursor


def _send(driver: Any, asked: Sequence[Asked]) -> None:
    statements = [(_driver_cursor(cursor), statement, parameters) for cursor, statement, parameters in asked]
    if isinstance(driver, FlightAsyncConnection):
        await_only(_send_async(driver, statements))
        for cursor, _, _ in asked:
            # SQLAlchemy's adapted cursor reads all rows after it executed; here that is now.
            if cursor.description:
                cursor._rows = deque(await_only(_driver_cursor(cursor).fetchall()))  # noqa: SLF001  (pinned by a test)
    else:
        with driver.lock:
            driver.wait(driver.send_batch(statements))


async def _send_async(driver: FlightAsyncConnection, statements: Sequence[Asked]) -> None:
    async with driver.lock:
        await driver.wait(driver.send_batch(statements))
