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
# The server or the pooler says that it ended the session for a reason of its own. That is believed once.
_TOLD = (errors.AdminShutdown, errors.ProtocolViolation)
# Connections that are not shared do not look for a number.
_OLD_POOLER = (
    "The pooler gives answers to other clients, which may not notice. "
    "Use PgBouncer 1.22.1 or later, or set DATABASE_SHARED_READS=off."
)

logger = logging.getLogger(__name__)


class Losses:
    """What was lost so far.

    Reads behind a line's head are repeated until their deadlines; the head once and alone, and once more
    where something else explains the loss.
    """

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
            logger.error("shared reads: %s. %s", error, _OLD_POOLER)
        for read, is_head in reversed(reads):
            # Only the head can have been the reason.
            blamed = is_head and not isinstance(error, OutOfStepError)
            if blamed and isinstance(error, _TOLD) and not read.was_forgiven:
                read.was_forgiven, blamed = True, False
            if blamed and isinstance(error, _FINAL):
                read.fail(error)
            elif blamed and read.is_suspect and not self._loop.is_closed():
                read.lost_lines -= now - before < TOGETHER_SECONDS
                self._loop.call_later(TOGETHER_SECONDS, self._judge, read, error)
            elif not read.places:
                if blamed:
                    read.is_suspect = True
                    read.lost_lines = self._counts.lost_lines - (now - before < TOGETHER_SECONDS)
                self._repeat(read)

    def _judge(self, read: Read, error: BaseException) -> None:
        """Fail a head that was lost twice; once more it is asked if other lines were lost meanwhile, too."""
        lost_without_it = self._counts.lost_lines - read.lost_lines > 1
        if lost_without_it and not read.was_forgiven:
            read.was_forgiven = True
            self._repeat(read)
        else:
            read.fail(error)
