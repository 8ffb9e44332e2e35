"""Idle connections are closed before the platform freezes or ends the process, where it tells.

A frozen process cannot answer, and its connections would sit in the pooler until a timeout there.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable

from .. import forks
from ..observability import otel as measures
from .database import Database

# An instance without requests is kept awake this long, to close its connections in peace.
IDLE_SECONDS = 5.0


def close_on_termination(database: Database) -> None:
    """On SIGTERM close what is idle, and leave at once unless a server has taken the signal over.

    Lambda gives 500 ms to functions, where `sys.exit` hangs, and a second to Web Functions, whose server
    ends the requests under way. A thread does it: Python runs handlers on the main thread, which waits for
    the next event, and if the system hands the signal to another one, as it does after a freeze, nothing
    wakes it.
    """
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; the server's end closes the rest.
        return
    handler = _handle_termination(database)
    # A child would write into the pipe of its parent, which would leave in its place.
    forks.after_in_child(
        lambda: _handle_termination(database) if signal.getsignal(signal.SIGTERM) is handler else None
    )


def _handle_termination(database: Database) -> Callable[..., object]:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)

    def ours(*_: object) -> None:
        """Keep the signal itself from ending the process."""

    def leave() -> None:
        while os.read(reads, 1) != bytes([signal.SIGTERM]):
            pass
        is_ours = signal.getsignal(signal.SIGTERM) is ours
        try:
            database.close()
            measures.flush()
        finally:
            if is_ours:
                os._exit(0)

    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, ours)
    threading.Thread(target=leave, name="termination", daemon=True).start()
    return ours


def close_before_snapshot(database: Database) -> None:
    """With SnapStart, no connection is in the snapshot, and no two instances draw the same numbers."""
    try:
        from snapshot_restore_py import (  # noqa: PLC0415  (Lambda's own)
            register_after_restore,
            register_before_snapshot,
        )
    except ModuleNotFoundError:
        return
    register_before_snapshot(database.close)
    register_after_restore(random.seed)


class IdleCloser:
    """Closes the connections once no request came for a while, keeping the instance awake until then."""

    def __init__(self, database: Database, keep_awake: Callable[[Awaitable[None]], None]) -> None:
        self._database = database
        self._keep_awake = keep_awake
        self._last_request = 0.0
        self._waits = False

    def note_request(self) -> None:
        """Note that a request was served just now."""
        self._last_request = asyncio.get_running_loop().time()
        if not self._waits:
            self._waits = True
            self._keep_awake(self._close_when_idle())

    async def _close_when_idle(self) -> None:
        try:
            # Each request moves the end: there is nothing to be woken by.
            while (rest := self._rest()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(rest)
            await self._database.aclose()
            await asyncio.to_thread(measures.flush)
        finally:
            self._waits = False

    def _rest(self) -> float:
        return self._last_request + IDLE_SECONDS - asyncio.get_running_loop().time()


def closing_when_idle(database: Database) -> Callable[[], None]:
    """A function to call after each request: it does something on Vercel, with its optional package."""
    if database.settings.platform.name == "vercel":
        try:
            from vercel.functions import wait_until  # noqa: PLC0415  (optional: 15 MB)
        except ModuleNotFoundError:
            pass
        else:
            return IdleCloser(database, wait_until).note_request
    return lambda: None
