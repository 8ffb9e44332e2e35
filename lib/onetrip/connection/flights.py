"""The pipelines of one connection, as generators for its sync and async kind: which messages go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg import errors
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from ..deadlines import current_deadline
from ..observability.request_stats import note_round_trips
from .late_rollback import LateRollback, only_reads
from .preamble import COMMIT, ROLLBACK, Preamble, begin_message, limits_message
from .protocol import NOTHING, PATIENCE_SECONDS, Answers, Message, Steps, apart, first_error, together, within

# A peer that was not heard for this long is asked for a first byte ahead of the answer, within the other.
SUSPECT_AFTER_SECONDS = 0.2

IDLE, INTRANS, INERROR = TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR
_driver_autocommit: Any = psycopg.Connection.autocommit
_BEGIN = b"BEGIN"
_COMMITS = (b"COMMIT", b"PREPARE TRANSACTION")


class Flight(NamedTuple):
    """The messages around one statement."""

    ahead: list[Message]
    behind: list[Message]
    # It commits by itself, so that a lost answer leaves the outcome unknown.
    stores: bool
    patience_seconds: float | None = None
    # The transaction begins and ends with the statement.
    is_own: bool = False


class Flights(LateRollback):
    """The part of both connections that knows what to send, as generators that each runs in its way."""

    preamble: Preamble
    unsettled: bool
    heard: Callable[[], None]
    idle_seconds: float
    read_only: bool | None
    deferrable: bool | None
    isolation_level: psycopg.IsolationLevel | None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.preamble = Preamble()

    def _is_autocommit(self) -> bool:
        """Return True if each statement is a transaction of its own, by the driver or by SQLAlchemy."""
        return self.preamble.autocommit or bool(_driver_autocommit.__get__(self))

    # Set it as psycopg does.
    autocommit = _driver_autocommit.getter(_is_autocommit)

    def take_off(self) -> Flight | None:
        """The messages that go around the next statement; None if it goes by itself."""
        status, last = self.transaction_status, self.preamble.last
        patience = self._patience(status)
        if status != IDLE or self.preamble.alone:
            if status not in (IDLE, INTRANS) or (not last and patience is None):
                return None
            return Flight([NOTHING], [COMMIT] if last else [], last, patience)
        reads = self._only_reads
        if not self.autocommit and not reads:
            return Flight(self._transaction(), [COMMIT] if last else [], last, patience)
        if self.single_flight:
            return Flight(self._settings(read_only=reads), [], not reads, patience, is_own=True)
        return Flight(self._transaction(), [COMMIT], not reads, patience, is_own=True)

    def fly(self, flight: Flight, messages: Sequence[Message]) -> Steps[Answers]:
        """Send the pipeline with its statements and return their answers, or raise the first error."""
        answers, error = yield from self.send(flight, messages)
        if error:
            raise self.told(error)
        return answers[len(flight.ahead) :][: len(messages)]

    def send(self, flight: Flight, messages: Sequence[Message]) -> Steps[tuple[Answers, PGresult | None]]:
        """Send the pipeline with its statements; return the answers to all messages, and the first error."""
        check_deadline()
        last, self.preamble.last = self.preamble.last, False
        # Also if it fails: a failed COMMIT must not be followed by the second half of a unit.
        self.preamble.ended = self.preamble.ended or last
        outward = [*flight.ahead, *messages]
        begins = self.transaction_status == IDLE
        if self.single_flight:
            self.unsettled = flight.stores
            # The answer to a late ROLLBACK comes with theirs.
            follows, self.owes_answer = self.owes_answer, False
            sent = [*outward, *flight.behind]
            answers = yield from together(self.pgconn, sent, flight.patience_seconds, follows=follows)
        else:
            answers = yield from self._send_apart(outward, flight)
        error = first_error(answers)
        if error:
            if flight.is_own and self.pgconn.transaction_status == INERROR:
                yield from self._exchange([ROLLBACK])
            # Surely nothing is stored, unless the session ended with it.
            self.unsettled = self.unsettled and self.pgconn.status != ConnStatus.OK
        elif self.pgconn.status != ConnStatus.OK:
            # Ended by this side, as what cannot go with others was asked: nothing of it is stored.
            self.unsettled = False
        if self.pgconn.transaction_status == INTRANS:
            statements = zip(messages, answers[len(flight.ahead) :], strict=False)
            self.only_read = (begins or self.only_read) and all(
                only_reads(message.text, results[0].command_status) for message, results in statements
            )
        self.heard()
        return answers, error

    def send_batch(self, statements: Sequence[tuple[Any, Any, Any]]) -> Steps[None]:
        """Send the statements (cursor, query, parameters) in one pipeline, and give each cursor its results.

        Raise the first error; the cursors of that statement and those after it have no result then.
        """
        if self.is_piping:
            raise psycopg.NotSupportedError("a batch is a pipeline, and one is open: leave that one first")
        flight = self.take_off() or Flight([NOTHING], [], stores=False)
        messages = []
        for cursor, query, parameters in statements:
            message = yield from cursor.message(query, parameters)
            if message is None:
                raise psycopg.NotSupportedError(
                    "a batch takes one statement at a time, not several in one text"
                )
            messages.append(message)
        answers, error = yield from self.send(flight, messages)
        if error and first_error(answers[: len(flight.ahead)]):
            # The guard refused: the statements after it did not run.
            raise self.told(error)
        for (cursor, query, _), results in zip(statements, answers[len(flight.ahead) :], strict=False):
            if error in results:
                break
            cursor.receive(results, query)
        if error:
            raise self.told(error)

    def told(self, error: PGresult) -> psycopg.Error:
        """The error that the server sent."""
        return errors.error_from_result(error, encoding=self._encoding)

    def _send_apart(self, outward: Sequence[Message], flight: Flight) -> Steps[Answers]:
        answers = yield from self._exchange(outward, flight.patience_seconds)
        if flight.behind and not first_error(answers) and self.pgconn.status == ConnStatus.OK:
            self.unsettled = flight.stores
            note_round_trips()
            answers += yield from self._exchange(flight.behind)
        return answers

    def _exchange(self, messages: Sequence[Message], patience_seconds: float | None = None) -> Steps[Answers]:
        if self.single_flight:
            return (yield from together(self.pgconn, messages, patience_seconds))
        answers = yield from apart(self.pgconn, messages, patience_seconds)
        note_round_trips(len(answers) - 1)
        return answers

    # Overridden generators of psycopg's, which its cursors, transactions and two-phase commit run.

    def _start_query(self) -> Steps[None]:
        """Send the preamble ahead of a query that cannot take it along."""
        # Unless its cursor knows better.
        self.only_read = self.only_read and self.preamble.alone
        if self.pgconn.transaction_status != IDLE:
            return
        reads = self._only_reads
        if self.preamble.alone:
            self.unsettled = self.autocommit and not reads
        elif self._pipeline:
            self.unsettled = self.autocommit and not reads
            self._queue(self._settings(read_only=reads) if self.autocommit else self._transaction())
        elif reads or not self.autocommit:
            # Settings that are made ahead need a transaction to hold in, so a reading session gets one too.
            yield from self._begin()
            # The statement that follows in the same wait is a round trip of its own.
            note_round_trips()
        else:
            self._refuse_without_preamble()
            self.unsettled = True

    def _exec_command(self, command: Any, *arguments: Any, **options: Any) -> Steps[PGresult | None]:
        self.only_read = False
        if isinstance(command, bytes) and command.startswith(_BEGIN):
            # psycopg's, with its options alone.
            if self._pipeline:
                self._queue(self._transaction())
            else:
                yield from self._begin()
            return None
        text = command if isinstance(command, bytes) else self._text(command)
        if text.startswith(_COMMITS):
            yield from self.check_commit()
        steps: Steps[PGresult | None] = super()._exec_command(command, *arguments, **options)  # type: ignore[misc]
        result = yield from steps
        self.heard()
        return result

    def _rollback_gen(self) -> Steps[None]:
        """Roll back, or close the connection: the server undoes the transaction of a session that ends."""
        if self.pgconn.status != ConnStatus.OK:
            return
        if self.pgconn.transaction_status != IDLE and is_over():
            self.pgconn.finish()
            return
        steps: Steps[None] = super()._rollback_gen()  # type: ignore[misc]  # psycopg's
        try:
            yield from within(PATIENCE_SECONDS, self.pgconn, steps)
        except (psycopg.OperationalError, psycopg.InternalError):
            self.pgconn.finish()

    def _begin(self) -> Steps[None]:
        check_deadline()
        answers = yield from self._exchange(self._transaction(), self._patience(IDLE))
        if error := first_error(answers):
            raise self.told(error)
        self.heard()

    def _queue(self, messages: Sequence[Message]) -> None:
        """Let the messages leave with the pipeline that is open; once is enough until its next Sync."""
        if self._pipeline.result_queue:
            return
        for message in (NOTHING, *messages):
            self._pipeline.command_queue.append(partial(message.queue, self.pgconn))
            self._pipeline.result_queue.append(None)

    def check_commit(self) -> Steps[None]:
        """Refuse a COMMIT that stores nothing: as long as it was not sent, that is known."""
        status = self.pgconn.transaction_status
        if status == INERROR:
            # The server would answer ROLLBACK, and no error.
            if not self._pipeline:
                yield from self._exchange([ROLLBACK])
            raise errors.InFailedSqlTransaction(
                "the transaction cannot be committed: a statement in it failed, and the error was caught. "
                "Roll back first, or run what may fail within begin_nested()"
            )
        if status == INTRANS:
            check_deadline()
        self.unsettled = self.pgconn.status == ConnStatus.OK and not self._only_reads

    def _refuse_without_preamble(self) -> None:
        if self.preamble.settings or self.preamble.guard:
            raise psycopg.NotSupportedError(
                "in AUTOCOMMIT this statement would run without the settings and guard of its connection. "
                "Run it in a transaction, or on a connection without them"
            )

    # The preamble of what comes next.

    @property
    def _only_reads(self) -> bool:
        preamble = self.preamble
        return preamble.ended or (self.autocommit and (preamble.read_only or bool(self.read_only)))

    def _transaction(self) -> list[Message]:
        preamble = self.preamble
        level: str | None = preamble.isolation_level
        if level is None and self.isolation_level is not None:
            level = self.isolation_level.name.replace("_", " ")
        read_only = True if preamble.read_only or preamble.ended else self.read_only
        deferrable = True if preamble.deferrable else self.deferrable
        begin = begin_message(level, read_only=read_only, deferrable=deferrable)
        return [begin, *self._settings(read_only=False)]

    def _settings(self, *, read_only: bool) -> list[Message]:
        limits = limits_message(self.pgconn.server_version, read_only=read_only)
        if not self.preamble.settings and not self.preamble.guard:
            return [limits]
        return [limits, *self.preamble.of_caller(self._encoding)]

    def _patience(self, status: int) -> float | None:
        suspect = status in (IDLE, INTRANS) and self.idle_seconds >= SUSPECT_AFTER_SECONDS
        return PATIENCE_SECONDS if suspect else None

    @property
    def _encoding(self) -> str:
        encoding: str = psycopg.ConnectionInfo(self.pgconn).encoding
        return encoding

    def _text(self, command: Any) -> bytes:
        return command.encode() if isinstance(command, str) else command.as_bytes(self)


def check_deadline() -> None:
    """Refuse to send once the deadline is over: nothing sent, nothing to be undone."""
    if is_over():
        raise errors.QueryCanceled("the deadline is over")


def is_over() -> bool:
    """Return True if the current deadline has passed."""
    deadline = current_deadline()
    return deadline is not None and deadline.is_over
