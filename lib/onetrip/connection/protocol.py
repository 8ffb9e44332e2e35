"""One pipeline of PostgreSQL's protocol, as a generator for sync and async connections alike.

Everything is queued first, then sent to the last byte while answers are read already: a server that has
no room left for its answer takes no more questions. The Sync at the end brings every answer, so nothing
is sent after it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.generators import execute, send
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

R = TypeVar("R")
Steps = Generator[Any, Any, R]
# One list for each message; the last one may be followed by that of an error which came with the Sync.
Answers = list[list[PGresult]]

# The protocol counts parameters in 16 bits.
MOST_PARAMETERS = 65_535
# A peer that is asked after a pause, or owes nothing but the answer to a ROLLBACK, is waited for this long.
PATIENCE_SECONDS = 2.0
_OK, _SYNC, _ERROR = ConnStatus.OK, ExecStatus.PIPELINE_SYNC, ExecStatus.FATAL_ERROR
_COPIES = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)


class Message(NamedTuple):
    """One statement with its parameters, as libpq takes them."""

    text: bytes
    values: Sequence[Any] | None = None
    types: Sequence[int] | None = None
    formats: Sequence[Any] | None = None
    result_format: Format = Format.TEXT

    def queue(self, pgconn: PGconn) -> None:
        """Put the message into libpq's buffer."""
        # Its parameters, in their order.
        pgconn.send_query_params(*self)


# An empty statement, answered at once unless the transaction failed. It goes ahead of statements without a
# preamble too: after a stream libpq may give the rows of a pipeline's first statement one by one.
NOTHING = Message(b"")


def together(
    pgconn: PGconn,
    messages: Sequence[Message],
    patience_seconds: float | None = None,
    *,
    follows: bool = False,
) -> Steps[Answers]:
    """Send the messages with one Sync and return their answers.

    With `patience_seconds` the first message is answered ahead of the others, and a peer that has not said
    a word by then is given up: the connection is closed and `OperationalError` raised. What `follows` another
    Sync is sent in the same pipeline: the answers to that one come first, and are dropped.
    """
    # After the first Sync's answer a PgBouncer older than 1.22.1 takes its server connection for idle, and
    # gives it to another client if this one is lost; the first answer that follows tells it better.
    is_first_answered = follows or patience_seconds is not None
    if pgconn.pipeline_status and not follows:
        raise psycopg.NotSupportedError(
            "this is a pipeline of its own, and one is open: leave that one first"
        )
    pgconn.enter_pipeline_mode()
    try:
        for message in messages:
            message.queue(pgconn)
            if is_first_answered and message is messages[0]:
                pgconn.send_flush_request()
        pgconn.pipeline_sync()
    except psycopg.Error:
        # A part may be queued or even sent: nothing else may follow it.
        pgconn.finish()
        raise
    if patience_seconds is not None:
        yield from _first_byte(pgconn, patience_seconds)
    yield from send(pgconn)
    if follows:
        yield from rest(pgconn)
    answers = yield from _answers(pgconn)
    if pgconn.status == _OK:
        pgconn.exit_pipeline_mode()
        _tell_notifications(pgconn)
    return answers


def apart(
    pgconn: PGconn, messages: Sequence[Message], patience_seconds: float | None = None
) -> Steps[Answers]:
    """Send the messages one by one, each with its own Sync; return the answers up to an error or a COPY."""
    answers: Answers = []
    for message in messages:
        message.queue(pgconn)
        if patience_seconds is not None and message is messages[0]:
            yield from _first_byte(pgconn, patience_seconds)
        answers.append((yield from execute(pgconn)))
        if answers[-1][-1].status in _COPIES:
            pgconn.finish()
        if first_error(answers[-1:]) or pgconn.status != _OK:
            break
    return answers


def first_error(answers: Answers) -> PGresult | None:
    """The first answer that is an error, if any: it is the reason for those that follow it."""
    for results in answers:
        for result in results:
            if result.status == _ERROR:
                return result
    return None


def within(seconds: float, pgconn: PGconn, steps: Steps[R]) -> Steps[R | None]:
    """The same steps; after `seconds` without their end the connection is closed instead."""
    end = monotonic() + seconds
    try:
        awaited = next(steps)
        while True:
            ready = yield awaited
            if not ready and monotonic() >= end:
                pgconn.finish()
                return None
            awaited = steps.send(ready)
    except StopIteration as last:
        result: R = last.value
        return result


def rest(pgconn: PGconn) -> Steps[None]:
    """Read and drop what is left up to the answer of the next Sync; it may stop and be begun again."""
    yield from _read(pgconn, [])


def _first_byte(pgconn: PGconn, seconds: float) -> Steps[None]:
    end = monotonic() + seconds
    while not (ready := (yield Wait.RW if pgconn.flush() else Wait.R)) or not ready & Ready.R:
        if monotonic() >= end:
            pgconn.finish()
            raise psycopg.OperationalError(f"the server has not answered within {seconds:g} s", pgconn=pgconn)


def _answers(pgconn: PGconn) -> Steps[Answers]:
    answers: Answers = []
    try:
        yield from _read(pgconn, answers)
    except psycopg.OperationalError:
        # A session that the server ended owes no more answers; the last one says why.
        error = first_error(answers)
        if error is None or error.error_field(DiagnosticField.SQLSTATE) is None:
            raise
        pgconn.finish()
    return answers


def _read(pgconn: PGconn, answers: Answers) -> Steps[None]:
    """Read the answers up to that of the Sync, a list of results for each message."""
    results: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            while not (yield Wait.R):
                pass
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            if pgconn.status != _OK:
                raise psycopg.OperationalError("the connection is lost", pgconn=pgconn)
            results = []
            continue
        status = result.status
        if status == _SYNC:
            return
        if not results:
            answers.append(results)
        results.append(result)
        if status in _COPIES:
            # libpq would give this answer for ever.
            pgconn.finish()
            return


def _tell_notifications(pgconn: PGconn) -> None:
    while notification := pgconn.notifies():
        if pgconn.notify_handler:
            pgconn.notify_handler(notification)
