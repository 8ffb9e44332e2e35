"""The end of a line: which of its reads are asked again, and which one may have been the reason."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import psycopg
from psycopg import errors

from .counts import Counts
from .line import OutOfStepError
from .read import NotShareableError, Read

# Lines that are lost within this time are lost together: by the network or the server, not by one of them.
TOGETHER_SECONDS = 0.1
# Ends of a line that its head would only meet again.
_FINAL = (errors.QueryCanceled, psycopg.NotSupportedError, NotShareableError)

logger = logging.getLogger(__name__)


class Losses:
    """What was lost so far. Reads behind a line's head are repeated; the head once and alone."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, counts: Counts, repeat: Callable[[Read], None]
    ) -> None:
        self._loop = loop
        self._counts = counts
        self._repeat = repeat
        self._latest = -TOGETHER_SECONDS

    def take(self, error: BaseException, reads: Sequence[tuple[Read, bool]]) -> None:
        """Ask again what waits for answers of a line that ended, first come first served."""
        now, before = time.monotonic(), self._latest
        self._latest = now
        self._counts.lost_lines += 1
        if isinstance(error, OutOfStepError):
            self._counts.out_of_step += 1
            logger.error("shared reads: %s. Use PgBouncer 1.22.1 or later.", error)
        for read, is_head in reversed(reads):
            # Only the head can have been the reason.
            blamed = is_head and not isinstance(error, OutOfStepError)
            if blamed and isinstance(error, _FINAL):
                read.fail(error)
            elif blamed and read.is_suspect and not self._loop.is_closed():
                together = now - before < TOGETHER_SECONDS
                lost = self._counts.lost_lines
                self._loop.call_later(TOGETHER_SECONDS, self._judge, read, error, lost - together)
            elif not read.places:
                read.is_suspect = read.is_suspect or blamed
                self._repeat(read)

    def _judge(self, read: Read, error: BaseException, lost: int) -> None:
        """Fail a head that was lost twice, unless other lines were lost with it: that counts but once."""
        if self._counts.lost_lines > lost and not read.was_forgiven:
            read.was_forgiven = True
            self._repeat(read)
        else:
            read.fail(error)
