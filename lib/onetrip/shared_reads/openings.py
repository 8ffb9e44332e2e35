"""The opening of lines, in threads of its own: all others may be waiting for the line that it opens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import Any

from sqlalchemy import Engine

from ..deadlines import deadline

# An attempt, including the wait for a place.
ATTEMPT_SECONDS = 15.0
# After this long another attempt is made beside it: the peer may have fallen silent in the handshake.
PATIENCE_SECONDS = 1.0
MOST_ATTEMPTS = 3
# A server that refuses is not asked again at once.
PAUSE_SECONDS = 0.1


def _drop(opening: Future[Any]) -> None:
    """Close a connection that comes after the wait for it has ended."""
    if not opening.cancelled() and opening.exception() is None and opening.result().is_valid:
        opening.result().invalidate()


class Openings:
    """The attempts to open a line."""

    def __init__(self, engine: Engine, pool_watch: Any) -> None:
        self._engine = engine
        self._pool_watch = pool_watch
        self._threads = ThreadPoolExecutor(MOST_ATTEMPTS, "shared-reads")
        self._attempts: set[asyncio.Task[None]] = set()
        self._next_at = 0.0
        self._has_closed = False

    @property
    def under_way(self) -> int:
        """The number of attempts that have no outcome yet."""
        return len(self._attempts)

    @property
    def may_begin(self) -> bool:
        """True if no attempt is under way, or none that may still be expected to succeed."""
        return len(self._attempts) < MOST_ATTEMPTS and time.monotonic() >= self._next_at

    def begin(self, opened: Callable[[Any], None], failed: Callable[[BaseException], None]) -> None:
        """Begin an attempt, whose outcome is told in the event loop."""
        self._next_at = time.monotonic() + PATIENCE_SECONDS
        attempt = asyncio.get_running_loop().create_task(self._attempt(opened, failed))
        self._attempts.add(attempt)

    async def _attempt(self, opened: Callable[[Any], None], failed: Callable[[BaseException], None]) -> None:
        this = asyncio.current_task()
        opening = self._threads.submit(Context().run, self._check_out)
        try:
            fairy = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            # The loop ends; the thread may still connect.
            opening.add_done_callback(_drop)
            raise
        except Exception as error:  # noqa: BLE001  (raised where it is waited for)
            self._attempts.discard(this)
            self._next_at = time.monotonic() + PAUSE_SECONDS
            failed(error)
        else:
            self._attempts.discard(this)
            self._next_at = 0.0
            opened(fairy)

    def _check_out(self) -> Any:
        with deadline(ATTEMPT_SECONDS):
            fairy: Any = self._engine.raw_connection()
        self._pool_watch.excuse(fairy)
        if self._has_closed:
            # Nothing waits for it, maybe not even the loop.
            fairy.close()
        return fairy

    def close(self) -> None:
        """Begin no more."""
        self._has_closed = True
        self._threads.shutdown(wait=False)
