"""The reads of an event loop: on which line each is sent, and where it is asked again if need be.

A hub has two lines, one to take over while the other is late or runs empty, and up to two more while lines
are late. Each line is a connection of the reading engine's pool and has one place of its limiter, which it
gives back when other work waits for one. Everything runs in the loop but `answer_in_thread`, for threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from sqlalchemy import Engine

from ..connection.protocol import Message
from ..deadlines import Deadline
from ..errors import PoolExhaustedError
from .counts import Counts
from .line import Line
from .losses import Losses
from .openings import Openings
from .read import NotShareableError, Read
from .round_trip import RoundTrip

if TYPE_CHECKING:
    from ..pool.limiter import Limiter

LINES = 2
SPARE_LINES = 2
TICK_SECONDS = 0.01
# An empty line goes back to its pool after this long.
LINGER_SECONDS = 5.0
# A thread waits this much longer than its deadline for the loop to say that it is over.
_THREAD_GRACE_SECONDS = 1.0
# A read fails with this many attempts to open a line for it, or once the pool had no place for that long.
MOST_OPENINGS = 3

logger = logging.getLogger(__name__)


class Hub:
    """The lines of one event loop and one engine."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, engine: Engine, limiter: Limiter, pool_watch: Any
    ) -> None:
        self._engine = engine
        self.limiter = limiter
        self.loop = loop
        self.lines: list[Line] = []
        self.counts = Counts()
        self._losses = Losses(self.loop, self.counts, self._repeat)
        # Open sessions that share their reads, and queries without a session.
        self.readers: set[object] = set()
        self._reads: set[Read] = set()
        self._waiting: deque[Read] = deque()
        self._openings = Openings(engine, pool_watch)
        self._ticking: asyncio.TimerHandle | None = None
        self.round_trip = RoundTrip()
        self.has_shared = self.has_closed = False
        limiter.on_wait.append(self._make_room_soon)

    @property
    def is_here(self) -> bool:
        """True if the loop runs in this thread."""
        return asyncio._get_running_loop() is self.loop  # noqa: SLF001  (the public one raises in threads)

    @property
    def serves(self) -> bool:
        """True if reads are shared now: several requests are served at once, or were a moment ago."""
        if self.has_closed or (len(self.readers) < 2 and not self.lines):  # noqa: PLR2004  (one and another)
            return False
        if self._engine.dialect.server_version_info is not None:
            return True
        # SQLAlchemy writes statements once its first connection told it of the server.
        self.loop.call_soon_threadsafe(self._grow)
        return False

    # Asking.

    def answer(self, messages: Sequence[Message], until: Deadline, receive: Any) -> asyncio.Future[None]:
        """Send the messages as one read; what is returned is done once `receive` has taken the answers."""
        future: asyncio.Future[None] = self.loop.create_future()
        self._submit(Read(messages, until, receive, future))
        return future

    def answer_in_thread(self, messages: Sequence[Message], until: Deadline, receive: Any) -> None:
        """`answer` for worker threads."""
        future: Future[None] = Future()
        try:
            self.loop.call_soon_threadsafe(self._submit, Read(messages, until, receive, future))
        except RuntimeError:
            raise NotShareableError from None
        try:
            future.result(until.seconds_left + _THREAD_GRACE_SECONDS)
        except TimeoutError:
            future.cancel()
            raise errors.QueryCanceled("the deadline is over") from None

    def _submit(self, read: Read) -> None:
        if self.has_closed:
            read.fail(NotShareableError())
            return
        self._reads.add(read)
        self.counts.sent += 1
        self._waiting.append(read)
        self._go_on()

    # Placing.

    def place_waiting(self) -> None:
        """Send the reads that wait, in their order, as far as lines take them."""
        while self._waiting:
            if self._waiting[0].is_over:
                self._waiting.popleft()
            elif line := self._line_for(self._waiting[0]):
                line.send(self._waiting.popleft())
            else:
                break
        self._grow()

    def _line_for(self, read: Read, other_than: Line | None = None) -> Line | None:
        best = None
        for line in self.lines.copy():
            if line.is_stale:
                line.end(psycopg.OperationalError("the connection was silent for too long"))
            elif line.takes and line is not other_than and not (read.is_suspect and line.slots):
                best = line if best is None or len(line.slots) < len(best.slots) else best
        return best

    def _grow(self) -> None:
        """Open a line where one is missing: the first one in its turn, others while nothing else waits."""
        if self.has_closed or not self._lacks_lines or not self._openings.may_begin:
            return
        is_free = self.limiter.used < self.limiter.capacity and not self.limiter.waiting
        under_way = len(self._waiting) + sum(len(line.slots) for line in self.lines)
        is_first = self._engine.dialect.server_version_info is None
        if (not self.lines and (self._waiting or is_first)) or (is_free and under_way > 1):
            self._openings.begin(self._opened, partial(self._not_opened, set(self._waiting)))

    @property
    def _lacks_lines(self) -> bool:
        count = late = 0
        for line in self.lines:
            # One that is given up may be lost: it does not count.
            if not line.is_late or not line.is_given_up:
                count, late = count + 1, late + line.is_late
        return count < LINES + min(SPARE_LINES, late)

    def _opened(self, fairy: Any) -> None:
        if self._lacks_lines and not self.has_closed:
            if not self.has_shared:
                self.has_shared = True
                logger.info("reads of concurrent requests share connections")
            self.lines.append(Line(self, fairy))
        else:
            # Another attempt was faster; closing once more does no harm.
            fairy.close()
        self._go_on()

    def _not_opened(self, waited: Collection[Read], error: BaseException) -> None:
        if not self.lines and not self._openings.under_way:
            for read in waited:
                read.failed_openings += 1
                if read.failed_openings >= MOST_OPENINGS or isinstance(error, PoolExhaustedError):
                    read.fail(error)
        self._go_on()

    def _go_on(self) -> None:
        self.place_waiting()
        self._wind(TICK_SECONDS)

    # Outcomes.

    def lost(self, error: BaseException, reads: Sequence[tuple[Read, bool]]) -> None:
        """Ask again what waits for answers of a line that ended, where that is safe."""
        self._losses.take(error, reads)
        if not self.loop.is_closed():
            self.loop.call_soon(self._look_at_others)

    def _look_at_others(self) -> None:
        """Find the other lines that are lost, before anything is sent on them."""
        for line in list(self.lines):
            line.read()
        self.place_waiting()

    def _repeat(self, read: Read) -> None:
        if not read.is_over:
            self.counts.repeated += 1
            self._waiting.appendleft(read)

    # The clock: it ticks while anything is under way, then waits for the end of the lines' rest.

    def _wind(self, seconds: float) -> None:
        if self._ticking:
            if self._ticking.when() <= self.loop.time() + seconds:
                return
            self._ticking.cancel()
        self._ticking = self.loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        now = time.monotonic()
        for read in [read for read in self._reads if read.is_over or now >= read.deadline.at]:
            read.fail(errors.QueryCanceled("the deadline is over"))
            self._reads.discard(read)
        for line in list(self.lines):
            line.judge(now, self.round_trip.seconds)
            if line.is_late:
                self._move(line, now)
        self._make_room()
        self.place_waiting()
        if self._reads or any(line.slots for line in self.lines):
            self._wind(TICK_SECONDS)
        elif self.lines:
            self._wind(LINGER_SECONDS)

    def _move(self, line: Line, now: float) -> None:
        """Ask again on another line what waits behind a late answer, and that one where it may be lost."""
        for position, slot in enumerate(line.slots):
            read = slot.read
            if read is None or read.is_over or (position == 0 and not slot.may_double(now)):
                continue
            other = self._line_for(read, line)
            if other is None:
                return
            if position == 0:
                # The first answer of the two is taken.
                read.doublings += 1
            else:
                slot.leave()
            self.counts.moved += 1
            other.send(read)

    # Giving places back.

    def _make_room_soon(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self._make_room)
        except RuntimeError:
            self.close()

    def _make_room(self) -> None:
        """Give back lines that rested, and as many as other work waits for; those in use run empty first."""
        now = time.monotonic()
        wanted = self.limiter.waiting
        for line in sorted(self.lines, key=lambda line: len(line.slots)):
            rested = now - line.empty_since >= LINGER_SECONDS
            if wanted > 0:
                wanted -= 1
                line.is_leaving = True
            if not line.slots and (line.is_leaving or rested):
                line.give_back()

    def close(self) -> None:
        """Give all lines back; reads that wait still go to connections of their own."""
        self.has_closed = True
        if self._make_room_soon in self.limiter.on_wait:
            self.limiter.on_wait.remove(self._make_room_soon)
        here = self.loop.is_closed() or self.is_here
        self._close() if here else self.loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        self._openings.close()
        if self._ticking:
            self._ticking.cancel()
        for line in list(self.lines):
            if line.slots:
                line.end(NotShareableError())
            else:
                line.give_back()
        for read in self._reads:
            read.fail(NotShareableError())

    def report(self) -> dict[str, int]:
        """The lines, the reads under way, and the course so far, as JSON has it."""
        under_way = sum(not read.is_over for read in self._reads)
        return {"lines": len(self.lines), "under_way": under_way, **asdict(self.counts)}
