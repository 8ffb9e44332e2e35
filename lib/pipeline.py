"""psycopg's pipelines, made safe behind a pooler."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg


class _Unflushed:
    """A pipeline that ends with its Sync, where psycopg's sends a Flush after it.

    The Sync brings every answer. A Flush that comes to a pooler later than they did is given a
    server connection, and since nothing answers it, nothing takes that connection back.
    """

    # While set, what is executed is kept, to leave in one piece with the Sync: each piece is a call
    # to the system, a record of TLS, and something for the pooler to look at.
    boarding = False

    def _communicate_gen(self: Any) -> Generator[Any, Any, None]:
        if not self.boarding:
            yield from super()._communicate_gen()  # type: ignore[misc]

    def _exit_gen(self: Any) -> Generator[Any, Any, None]:
        self.boarding = False
        self._enqueue_sync()
        try:
            yield from self._communicate_gen()
        except psycopg.Error:
            # The first error is the reason; what was skipped for it says "pipeline aborted" and no more.
            with suppress(psycopg.Error):
                yield from self._fetch_gen(flush=False)
            raise
        yield from self._fetch_gen(flush=False)


class UnflushedPipeline(_Unflushed, psycopg.Pipeline):
    """For sync connections."""


class UnflushedAsyncPipeline(_Unflushed, psycopg.AsyncPipeline):
    """For async connections."""
