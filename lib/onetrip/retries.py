"""Retries: of connecting and of units of work, never past the deadline.

Connecting is safe to repeat; so is a unit of work that was rolled back. A COMMIT whose answer was
lost is neither: it is reported as unknown (SQLSTATE 08007) and left to the caller.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from . import server_messages
from .attempt import attempt
from .deadlines import current_deadline
from .errors import SecretError
from .sqlstate import Kind, classify

if TYPE_CHECKING:
    # Imported lazily: the health function must not load psycopg.
    import psycopg

R = TypeVar("R")

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
UNIT_ATTEMPTS = 5


def refuses_login(error: psycopg.Error) -> bool:
    """Tell whether the server knows another password, or no such role."""
    return server_messages.refuses_login(str(error))


def is_transient(error: psycopg.Error | SecretError) -> bool:
    """Tell whether a failed connect is worth another try."""
    from psycopg import OperationalError  # noqa: PLC0415

    if isinstance(error, SecretError):
        return error.passes
    return isinstance(error, OperationalError) and server_messages.is_transient(str(error))


def pauses() -> Iterator[float]:
    """Seconds to pause between tries, growing and random, until the deadline leaves no time."""
    longest = FIRST_PAUSE_SECONDS
    while True:
        pause = random.uniform(longest / 2, longest)  # noqa: S311  (no secret)
        deadline = current_deadline()
        if deadline is not None and deadline.seconds_left <= pause:
            return
        yield pause
        longest = min(longest * 2, LONGEST_PAUSE_SECONDS)


def connecting(connect: Callable[[], R]) -> R:
    """Call `connect` until it succeeds, fails for good, or the deadline leaves no time."""
    from psycopg import Error  # noqa: PLC0415

    said: Exception | None = None
    for pause in pauses():
        try:
            return connect()
        except (Error, SecretError) as error:
            if not is_transient(error):
                raise
            said = _more_telling(said, error)
            time.sleep(pause)
    try:
        return connect()
    except Error as error:
        raise _more_telling(said, error) from None


async def async_connecting(connect: Callable[[], Awaitable[R]]) -> R:
    """`connecting` for async code."""
    from psycopg import Error  # noqa: PLC0415

    said: Exception | None = None
    for pause in pauses():
        try:
            return await connect()
        except (Error, SecretError) as error:
            if not is_transient(error):
                raise
            said = _more_telling(said, error)
            await asyncio.sleep(pause)
    try:
        return await connect()
    except Error as error:
        raise _more_telling(said, error) from None


def _more_telling(before: Exception | None, error: Exception) -> Exception:
    """The server's own words of an earlier try, if this one only ended with the deadline."""
    from psycopg.errors import ConnectionTimeout  # noqa: PLC0415

    return before if before and isinstance(error, ConnectionTimeout) else error


def may_repeat_unit(error: BaseException) -> bool:
    """Return True if the unit of work that raised `error` was rolled back for sure and may succeed later."""
    fault = classify(error)
    if fault is None or fault.kind is Kind.CONFLICT:
        return fault is not None
    # SQLAlchemy sets the mark where a connection broke; where none could be made it is not set.
    return fault.kind is Kind.UNAVAILABLE and getattr(error, "connection_invalidated", False)


def retry(work: Callable[[], R]) -> R:
    """Run a whole unit of work (its own transaction included), again after a conflict with another.

    Work of which a part was committed is not run again: the error is raised as it is.
    """
    for number, pause in enumerate(pauses(), 2):
        with attempt() as tried:
            try:
                return work()
            except Exception as error:
                if number > UNIT_ATTEMPTS or tried.committed or not may_repeat_unit(error):
                    raise
        time.sleep(pause)
    return work()


async def async_retry(work: Callable[[], Awaitable[R]]) -> R:
    """`retry` for async code."""
    for number, pause in enumerate(pauses(), 2):
        with attempt() as tried:
            try:
                return await work()
            except Exception as error:
                if number > UNIT_ATTEMPTS or tried.committed or not may_repeat_unit(error):
                    raise
        await asyncio.sleep(pause)
    return await work()
