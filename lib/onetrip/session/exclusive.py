"""Use by one task or thread at a time: a session is neither thread-safe nor for two tasks at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from ..errors import ConcurrentUseError
from ..pool.unit import runner

F = TypeVar("F", bound=Callable[..., Any])
CONCURRENT = (
    "Two tasks or threads use one session at the same time. Let one follow the other, or open one in each: "
    "`with onetrip.transaction() as session:`, or onetrip.reading(), async_transaction(), async_reading()."
)


def exclusive(method: F) -> F:
    """`method`, refused while another task or thread is at work with the session."""

    @wraps(method)
    def alone(session: Any, *arguments: Any, **options: Any) -> Any:
        user = runner()
        if session.depth and session.user != user:
            raise ConcurrentUseError(CONCURRENT)
        session.user, session.depth = user, session.depth + 1
        try:
            return method(session, *arguments, **options)
        finally:
            session.depth -= 1
            if session.has_ended and not session.depth:
                # It ended meanwhile, and left this to the task that was at work.
                session.close()

    return cast("F", alone)
