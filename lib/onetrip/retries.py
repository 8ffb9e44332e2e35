"""What may be tried again, how often, and never past the deadline.

Connecting is safe to repeat; so is a unit of work that was rolled back. A COMMIT whose answer was
lost is neither: it is reported as unknown (SQLSTATE 08007) and left to the caller.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from .deadlines import current_deadline
from .errors import SecretError
from .sqlstate import Kind, classify

if TYPE_CHECKING:
    # Whoever connects has imported it; whoever asks what may be repeated need not have.
    import psycopg

R = TypeVar("R")

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
UNIT_ATTEMPTS = 5

# libpq hands out no SQLSTATE for a connection that failed, only the text; these are PostgreSQL's,
# PgBouncer's, Neon's and the operating system's words for what passes by itself. All else, such as
# a disabled endpoint, is final.
_PASSES = re.compile(
    r"starting up|shutting down|recovery|not yet accepting|too many (clients|connections)"
    r"|remaining connection slots|no more connections|connect to compute|acquire permit"
    r"|control plane request failed|server_login|pooler is shut|bouncer is shutting"
    r"|refused|reset by peer|broken pipe|timeout|timed out|closed the connection|closed unexpectedly"
    r"|unexpected eof|eof detected|unreachable|no route|temporary failure|try again|server conn crashed",
    re.IGNORECASE,
)


# The text may tell of several addresses, or of a pooler's attempts: one such refusal is enough.
_FINAL = re.compile(
    r"authentication failed|no password|does not exist|no such (user|database)|pg_hba", re.IGNORECASE
)
_REFUSED = re.compile(r"authentication failed|no password|role +does not exist|no such user", re.IGNORECASE)
_NAMES = re.compile(r'"[^"]*"')


def refuses_login(error: psycopg.Error) -> bool:
    """Whether the server knows another password, or no such role."""
    return bool(_REFUSED.search(_NAMES.sub("", str(error))))


def passes_by_itself(error: psycopg.Error | SecretError) -> bool:
    """Whether a failed connect is worth another try."""
    from psycopg import OperationalError  # noqa: PLC0415

    if isinstance(error, SecretError):
        return error.passes
    said = _NAMES.sub("", str(error))
    is_final = not isinstance(error, OperationalError) or _FINAL.search(said)
    return not is_final and bool(_PASSES.search(said))


def pauses() -> Iterator[float]:
    """Seconds to pause between tries, growing and random, until the deadline leaves no room."""
    longest = FIRST_PAUSE_SECONDS
    while True:
        pause = random.uniform(longest / 2, longest)  # noqa: S311  (no secret)
        deadline = current_deadline()
        if deadline is not None and deadline.seconds_left <= pause:
            return
        yield pause
        longest = min(longest * 2, LONGEST_PAUSE_SECONDS)


def connecting(connect: Callable[[], R]) -> R:
    """Call `connect` until it succeeds, fails for good, or the deadline leaves no room."""
    from psycopg import Error  # noqa: PLC0415

    for pause in pauses():
        try:
            return connect()
        except (Error, SecretError) as error:
            if not passes_by_itself(error):
                raise
            time.sleep(pause)
    return connect()


async def async_connecting(connect: Callable[[], Awaitable[R]]) -> R:
    """`connecting` for async code."""
    from psycopg import Error  # noqa: PLC0415

    for pause in pauses():
        try:
            return await connect()
        except (Error, SecretError) as error:
            if not passes_by_itself(error):
                raise
            await asyncio.sleep(pause)
    return await connect()


def may_repeat_unit(error: BaseException) -> bool:
    """Whether the unit of work that raised `error` was surely rolled back and may succeed next time."""
    fault = classify(error)
    if fault is None or fault.kind is Kind.CONFLICT:
        return fault is not None
    # SQLAlchemy sets the mark where a connection broke; where none could be made it is not set.
    return fault.kind is Kind.UNAVAILABLE and getattr(error, "connection_invalidated", False)


def retry(work: Callable[[], R]) -> R:
    """Run a whole unit of work (its own transaction included), again after a conflict with another."""
    for attempt, pause in enumerate(pauses(), 2):
        try:
            return work()
        except Exception as error:
            if attempt > UNIT_ATTEMPTS or not may_repeat_unit(error):
                raise
            time.sleep(pause)
    return work()


async def async_retry(work: Callable[[], Awaitable[R]]) -> R:
    """`retry` for async code."""
    for attempt, pause in enumerate(pauses(), 2):
        try:
            return await work()
        except Exception as error:
            if attempt > UNIT_ATTEMPTS or not may_repeat_unit(error):
                raise
            await asyncio.sleep(pause)
    return await work()
