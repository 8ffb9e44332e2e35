"""psycopg's pipelines, made safe behind a pooler."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

R = TypeVar("R")


class _Unflushed:
    """A pipeline that ends with its Sync, where psycopg's sends a Flush after it.

    The Sync brings every answer. A Flush that comes to a pooler later than they did is given a
    server connection, and since nothing answers it, nothing takes that connection back.
    """

    def __init__(self, connection: Any, *, boarding: bool = False) -> None:
        super().__init__(connection)  # type: ignore[call-arg]
        # While set, what is executed is kept, to leave in one piece with the Sync: each piece is a call
        # to the system, a record of TLS, and something for the pooler to look at.
        self.boarding = boarding

    def _communicate_gen(self: Any) -> Generator[Any, Any, None]:
        if not self.boarding:
            yield from super()._communicate_gen()  # type: ignore[misc]

    def _exit_gen(self: Any) -> Generator[Any, Any, None]:
        self.boarding = False
        return self._leave_gen()  # type: ignore[no-any-return]

    def _leave_gen(self: Any) -> Generator[Any, Any, None]:
        self._enqueue_sync()
        try:
            yield from self._communicate_gen()
        except psycopg.Error:
            # The first error is the reason; what was skipped for it says "pipeline aborted" and no more.
            with suppress(psycopg.Error):
                yield from self._fetch_gen(flush=False)
            raise
        yield from self._fetch_gen(flush=False)


def at_once(steps: Generator[Any, Any, R]) -> R:
    """What steps come to that send nothing, and so have nothing to wait for."""
    try:
        next(steps)
    except StopIteration as end:
        result: R = end.value
        return result
    raise psycopg.InterfaceError("a statement that was to leave with others would not wait for them")


class UnflushedPipeline(_Unflushed, psycopg.Pipeline):
    """For sync connections."""


class UnflushedAsyncPipeline(_Unflushed, psycopg.AsyncPipeline):
    """For async connections."""
