"""A ROLLBACK that is sent and not waited for: its answer is read with that to the next statement.

It can only succeed, or end with the connection, which undoes the transaction as well. It is sent in libpq's
pipeline mode, in which the next statement may follow before the answer is there. Everything else that uses
the connection reads the answer first. Waiting would only tell when the locks are gone, so a transaction that
may have some is waited for.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn

from ..observability.request_stats import note_round_trips
from .preamble import ROLLBACK
from .protocol import PATIENCE_SECONDS, Steps, rest, within

# What a statement that answers like a SELECT may have done otherwise: written, or locked something.
_LOCKS = re.compile(rb"\b(?:INSERT|UPDATE|DELETE|MERGE|INTO|SHARE)\b|advisory|;", re.IGNORECASE)


class LateRollback:
    """The part of both connections that leaves a transaction without waiting."""

    # The answer to a ROLLBACK is still to be read; until then libpq's pipeline is open.
    owes_answer = False
    # Nothing but SELECTs was answered in the transaction that is open.
    only_read = False
    # With its statement, or with a wait after each part of it.
    single_flight = True
    # The code of the generators that take the answer along.
    taking_along: frozenset[Any] = frozenset()
    pgconn: PGconn
    _pipeline: Any

    @property
    def transaction_status(self) -> int:
        """That of libpq; idle once the ROLLBACK is sent."""
        status = self.pgconn.transaction_status
        return TransactionStatus.IDLE if self.owes_answer and status == TransactionStatus.ACTIVE else status

    @property
    def is_piping(self) -> bool:
        """Return True within a pipeline, but for the one of a late ROLLBACK."""
        return bool(self.pgconn.pipeline_status) and not self.owes_answer

    @property
    def is_idle(self) -> bool:
        """Return True if no transaction was begun on the server, or its ROLLBACK is sent."""
        return self.transaction_status == TransactionStatus.IDLE and not self.is_piping

    def leave(self) -> bool:
        """Send the ROLLBACK of a transaction that only read; False if it must be waited for."""
        if not (self.only_read and self.single_flight) or self.is_piping:
            return False
        if self.transaction_status != TransactionStatus.INTRANS:
            return False
        self.only_read = False
        try:
            self.pgconn.enter_pipeline_mode()
            ROLLBACK.queue(self.pgconn)
            self.pgconn.pipeline_sync()
            unsent = self.pgconn.flush()
        except psycopg.Error:
            unsent = 1
        if unsent:
            # A peer that takes no more bytes; the server undoes the transaction of a session that ends.
            self.pgconn.finish()
        self.owes_answer = not unsent
        return True

    def collect(self) -> None:
        """Read the answer as far as it is there; raise `OperationalError` if the connection is lost."""
        if not self.owes_answer:
            return
        self.pgconn.consume_input()
        steps = self._reading()
        try:
            next(steps)
        except StopIteration:
            return
        steps.close()

    def after_answer(self, steps: Steps[Any]) -> Steps[Any]:
        """The same steps, once the answer is read; a pipeline of ours takes it along."""
        # An answer that has lain here since long says nothing of a peer that is silent now.
        self.collect()
        if getattr(steps, "gi_code", None) not in self.taking_along:
            yield from self.answered()
        return (yield from steps)

    def answered(self) -> Steps[None]:
        """Wait for the answer if one is owed, but close the connection to a silent peer."""
        self.collect()
        if self.owes_answer:
            note_round_trips()
            yield from within(PATIENCE_SECONDS, self.pgconn, self._reading())

    def _reading(self) -> Steps[None]:
        yield from rest(self.pgconn)
        self.pgconn.exit_pipeline_mode()
        self.owes_answer = False


def only_reads(statement: Any, status: str | bytes | None) -> bool:
    """Return True if neither the statement nor the server's word for what it did says more than reading."""
    if not status or status[:6] not in ("SELECT", b"SELECT"):
        return False
    text = statement.encode() if isinstance(statement, str) else statement
    return isinstance(text, bytes) and not _LOCKS.search(text)
