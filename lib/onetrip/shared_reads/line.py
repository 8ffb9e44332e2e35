"""A connection on which the reads of many requests are under way, each ended by a Sync of its own.

Between two Syncs there is no transaction, so nothing of one read holds for the next. A line is never brought
back into step: after any doubt it ends, and its reads are asked again elsewhere.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.pq import ExecStatus

from ..connection.protocol import Answers, first_error
from .read import Read, has_number, numbered_limits

if TYPE_CHECKING:
    from .hub import Hub

# The rest waits in the hub, where it can be withdrawn without a trace.
MOST_IN_FLIGHT = 32
# An answer may come this much later than the network and the answers before it explain.
LATE_SECONDS = 0.01
# Under steady load, a pooler gets its server connection back this often.
EMPTY_EVERY_SECONDS = 0.25
# A connection that was silent for this long may be dead: even its first read is asked again elsewhere.
PROVEN_SECONDS = 0.2
# Longer silence is not trusted at all; only a machine that was suspended leaves a line so long.
STALE_SECONDS = 10.0
# The server ends a statement before its deadline; a line waits a little longer for word of it.
_GRACE_SECONDS = 0.05
_RESULTS = frozenset(
    {
        ExecStatus.COMMAND_OK,
        ExecStatus.TUPLES_OK,
        ExecStatus.EMPTY_QUERY,
        ExecStatus.FATAL_ERROR,
        ExecStatus.PIPELINE_ABORTED,
    }
)


class OutOfStepError(psycopg.OperationalError):
    """An answer that belongs to another query."""


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one query in the order of answers; a read that is awaited elsewhere has left it."""

    read: Read | None
    number: bytes
    until: float
    sent: float
    # The peer was heard shortly before.
    proven: bool
    answers: Answers = field(default_factory=list)
    # Results of the same message follow.
    goes_on: bool = False

    @property
    def half_time(self) -> float:
        """The moment when a late answer is given up: there is as much time again for another line's."""
        return (self.sent + self.until) / 2

    def may_double(self, now: float) -> bool:
        """True if its late read is asked again although the server may be at work on it."""
        reasons = (not self.proven) + (now >= self.half_time)
        return self.read is not None and self.read.doublings < reasons

    def leave(self) -> None:
        """Await the read elsewhere from now on, or nowhere."""
        if self.read:
            self.read.places -= 1
            self.read = None

    def add(self, result: Any) -> None:
        """Note a result of the query; those of one message come in a row."""
        if not self.goes_on:
            self.answers.append([])
        self.goes_on = True
        self.answers[-1].append(result)


class Line:
    """A connection of the pool in pipeline mode. It runs in its event loop alone."""

    def __init__(self, hub: Hub, fairy: Any) -> None:
        self._hub = hub
        self._fairy = fairy
        pool, record = fairy._pool, fairy._connection_record  # noqa: SLF001  (SQLAlchemy's)
        self._replaced_at = record.starttime + pool._recycle if pool._recycle > -1 else math.inf  # noqa: SLF001
        self.connection: Any = fairy.driver_connection
        self._pgconn = self.connection.pgconn
        self._pgconn.enter_pipeline_mode()
        self._socket: int = self._pgconn.socket
        # Numbers of other lines and processes, restored snapshots too, differ.
        self._prefix = secrets.token_hex(8)
        self._sent = 0
        self.slots: deque[Slot] = deque()
        now = time.monotonic()
        self.busy_since = self.empty_since = self._head_since = now
        self.is_late = self.is_draining = self.is_leaving = self.has_ended = self._writes = False
        hub.loop.add_reader(self._socket, self.read)

    @property
    def takes(self) -> bool:
        """True if another read may be sent on it."""
        closed = self.has_ended or self.is_late or self.is_draining or self.is_leaving
        if closed or len(self.slots) >= MOST_IN_FLIGHT:
            return False
        head = self.slots[0].read if self.slots else None
        return not (head and head.is_suspect)

    @property
    def is_stale(self) -> bool:
        """True if the peer was not heard for so long that the connection is not worth a try."""
        return not self.slots and bool(self.connection.idle_seconds >= STALE_SECONDS)

    def send(self, read: Read) -> None:
        """Send all messages of the read. An error ends the line: nothing stays without a Sync."""
        now = time.monotonic()
        if not self.slots:
            self._head_since = self.busy_since = now
        self._sent += 1
        number = f"{self._prefix}-{self._sent}".encode()
        proven = self.connection.idle_seconds < PROVEN_SECONDS
        self.slots.append(Slot(read, number, read.deadline.at, now, proven))
        read.places += 1
        try:
            numbered_limits(number, self._pgconn.server_version, read.deadline).queue(self._pgconn)
            if len(self.slots) > 1:
                # As in `protocol.together`: an old pooler is to know that its server connection is in use.
                self._pgconn.send_flush_request()
            for message in read.messages:
                message.queue(self._pgconn)
            self._pgconn.pipeline_sync()
            self._flush()
        except (psycopg.Error, ValueError, OverflowError) as error:
            self.end(error)

    def read(self) -> None:
        """Take what has come, and hand each query's answers over at its Sync."""
        if self.has_ended:
            return
        try:
            self._pgconn.consume_input()
            self.connection.heard()
            self._take_results()
            if self._writes:
                self._flush()
        except psycopg.Error as error:
            self.end(error)
        self._hub.place_waiting()

    def judge(self, now: float, round_trip_seconds: float) -> None:
        """Find it late, too long without a pause, or beyond its head's deadline."""
        if self.slots and now >= self._due(round_trip_seconds):
            # The loop may have been held up, not the answer.
            self.read()
            now = time.monotonic()
        if self.has_ended or not self.slots:
            return
        if now >= self.slots[0].until + _GRACE_SECONDS:
            self.end(errors.QueryCanceled("the deadline is over"))
            return
        # Its pool would have replaced it at this age.
        self.is_leaving = self.is_leaving or time.time() >= self._replaced_at
        self.is_draining = self.is_draining or now - self.busy_since >= EMPTY_EVERY_SECONDS
        self.is_late = self.is_late or now >= self._due(round_trip_seconds)

    def end(self, error: BaseException) -> None:
        """Close the connection; what waits for its answers is asked again elsewhere, where that is safe."""
        if self.has_ended:
            return
        self._leave()
        slots, head = list(self.slots), self.slots[0] if self.slots else None
        self.slots.clear()
        told = first_error(head.answers) if head else None
        if told is not None and not isinstance(error, OutOfStepError):
            error = errors.error_from_result(told)
        self._pgconn.finish()
        self._fairy.invalidate()
        reads = [(slot.read, slot is head) for slot in slots if slot.read]
        for slot in slots:
            slot.leave()
        self._hub.lost(error, reads)

    def give_back(self) -> None:
        """Return the empty connection to its pool."""
        self._leave()
        try:
            self._pgconn.exit_pipeline_mode()
        except psycopg.Error:
            self._pgconn.finish()
            self._fairy.invalidate()
        else:
            self._fairy.close()

    def _leave(self) -> None:
        self.has_ended = True
        if not self._hub.loop.is_closed():
            self._hub.loop.remove_reader(self._socket)
            if self._writes:
                self._hub.loop.remove_writer(self._socket)
        self._hub.lines.remove(self)

    @property
    def is_given_up(self) -> bool:
        """True if its first answer is so late that it may never come."""
        return self.is_late and time.monotonic() >= self.slots[0].half_time

    def _due(self, round_trip_seconds: float) -> float:
        """The moment after which the first answer is late."""
        return max(self.slots[0].sent + round_trip_seconds, self._head_since) + LATE_SECONDS

    def _take_results(self) -> None:
        nothing = 0
        while self.slots and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                # One stands between two messages; a lost connection has nothing else.
                nothing += 1
                if nothing > 1:
                    raise psycopg.OperationalError("the connection is lost")
                self.slots[0].goes_on = False
                continue
            nothing = 0
            if result.status == ExecStatus.PIPELINE_SYNC:
                self._land()
            elif result.status in _RESULTS:
                self.slots[0].add(result)
            else:
                raise psycopg.NotSupportedError("the statement has another kind of answer than rows")

    def _land(self) -> None:
        slot = self.slots[0]
        if not has_number(slot.answers, slot.number):
            if slot.answers and slot.answers[0][0].status == ExecStatus.FATAL_ERROR:
                raise psycopg.OperationalError("the settings were refused")
            raise OutOfStepError("an answer came that belongs to another question")
        self.slots.popleft()
        now = self._head_since = time.monotonic()
        self.is_late = False
        self._hub.round_trip.note(now - slot.sent)
        if read := slot.read:
            slot.leave()
            read.answer(slot.answers[1:], self.connection)
        if not self.slots:
            self.is_draining, self.empty_since = False, now

    def _flush(self) -> None:
        unsent = bool(self._pgconn.flush())
        if unsent and not self._writes:
            self._hub.loop.add_writer(self._socket, self._write)
        elif self._writes and not unsent:
            self._hub.loop.remove_writer(self._socket)
        self._writes = unsent

    def _write(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self.end(error)
