"""Batches: independent statements sent together and answered together, in one round trip.

Each statement is executed by the session as ever, in a greenlet of its own that stops where it would
send. Once all have stopped, they are sent in one pipeline; then each goes on and reads its answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from inspect import isawaitable
from typing import Any

import psycopg
from greenlet import getcurrent, greenlet
from sqlalchemy import Executable, Result
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from ..connection.dialect import Passenger
from ..connection.single_flight import FlightAsyncConnection, FlightConnection

Boarded = tuple[Any, Any, Any]


def batch(session: Session, *statements: Executable) -> list[Result[Any]]:
    """The results of independent statements, in their order, after one round trip."""
    session.flush()
    driver: Any = session.connection().connection.driver_connection
    if not isinstance(driver, FlightConnection | FlightAsyncConnection):
        return [session.execute(statement) for statement in statements]
    passengers = [_passenger(session, statement) for statement in statements]
    boarded = [_stopped(passenger, passenger.switch()) for passenger in passengers]
    try:
        _depart(driver, boarded)
    except psycopg.Error as error:
        failed = next((n for n, (cursor, *_) in enumerate(boarded) if _of_driver(cursor).pgresult is None), 0)
        # Each is told, so that SQLAlchemy does with each what it does after an error.
        raise [_told(passenger, error) for passenger in passengers][failed] from error
    return [_stopped(passenger, passenger.switch()) for passenger in passengers]


async def async_batch(session: AsyncSession, *statements: Executable) -> list[Result[Any]]:
    """`batch` for async sessions."""
    return await session.run_sync(batch, *statements)


def _passenger(session: Session, statement: Executable) -> Passenger:
    passenger = Passenger(lambda: session.execute(statement))
    passenger.gr_context = getcurrent().gr_context
    return passenger


def _stopped(passenger: greenlet, given: Any) -> Any:
    """What the passenger stopped with, after the awaiting that it needed on its way there."""
    while isawaitable(given):
        try:
            value = await_only(given)
        except Exception as error:  # noqa: BLE001  (the passenger's to handle)
            given = passenger.throw(error)
        else:
            given = passenger.switch(value)
    return given


def _told(passenger: greenlet, error: psycopg.Error) -> Exception:
    try:
        _stopped(passenger, passenger.throw(error))
    except Exception as raised:  # noqa: BLE001  (what SQLAlchemy made of it)
        return raised
    return error


def _of_driver(cursor: Any) -> Any:
    """The driver's own cursor: SQLAlchemy wraps async ones."""
    return getattr(cursor, "_cursor", cursor)


def _depart(driver: FlightConnection | FlightAsyncConnection, boarded: Sequence[Boarded]) -> None:
    if isinstance(driver, FlightAsyncConnection):
        await_only(_async_send(driver, boarded))
    else:
        _send(driver, boarded)


def _send(driver: FlightConnection, boarded: Sequence[Boarded]) -> None:
    with driver.pipeline():
        for text, values in driver.flight.companions(driver.info.transaction_status):
            psycopg.Cursor(driver).execute(text.encode(), values)
        for cursor, statement, parameters in boarded:
            cursor.execute(statement, parameters)


async def _async_send(driver: FlightAsyncConnection, boarded: Sequence[Boarded]) -> None:
    async with driver.pipeline():
        for text, values in driver.flight.companions(driver.info.transaction_status):
            await psycopg.AsyncCursor(driver).execute(text.encode(), values)
        for adapted, statement, parameters in boarded:
            await _of_driver(adapted).execute(statement, parameters)
    for adapted, _, _ in boarded:
        # SQLAlchemy's adapted cursor reads all rows after it executed; here that is now.
        if _of_driver(adapted).description:
            adapted._rows = deque(await _of_driver(adapted).fetchall())  # noqa: SLF001  (pinned by a test)
