"""One read: a statement with its caller's settings and guard, answered at most once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from psycopg.pq import ExecStatus

from ..connection.preamble import limits_message
from ..connection.protocol import Answers, Message
from ..deadlines import Deadline

# The oid of `text`.
_TEXT = 25


class NotShareableError(Exception):
    """The statement was not sent, and needs a connection of its own."""


@dataclass(slots=True, eq=False)
class Read:
    """A query that a request waits for."""

    # The caller's settings and guard, then the statement.
    messages: Sequence[Message]
    deadline: Deadline
    # Takes the answers to `messages` and the connection that they came on, or raises the error among them.
    receive: Callable[[Answers, Any], None]
    future: Future[None] | asyncio.Future[None]
    # Set once a connection was lost while the server worked on it: then it is sent alone, for the last time.
    is_suspect: bool = False
    # The lines that had been lost then; more since are not its doing.
    lost_lines: int = 0
    was_forgiven: bool = False
    failed_openings: int = 0
    # The lines on which it is awaited, and how often it was asked again although it was not known to be lost.
    places: int = 0
    doublings: int = 0

    @property
    def is_over(self) -> bool:
        """True if nothing waits for it: it is answered, failed or cancelled."""
        return self.future.done()

    def answer(self, answers: Answers, connection: Any) -> None:
        """Hand the answers over, unless nothing waits for them."""
        if self.is_over:
            return
        try:
            self.receive(answers, connection)
        except Exception as error:  # noqa: BLE001  (the waiting code's to handle)
            self.fail(error)
        else:
            with suppress(InvalidStateError, asyncio.InvalidStateError):
                self.future.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Raise the error where the read is waited for."""
        if not self.is_over:
            with suppress(InvalidStateError, asyncio.InvalidStateError):
                self.future.set_exception(error)


def numbered_limits(number: bytes, server_version: int, deadline: Deadline) -> Message:
    """The settings of a read, whose answer brings the number back."""
    limits = limits_message(server_version, read_only=True, deadline=deadline)
    return Message(_with_number(limits.text), [number], [_TEXT])


def has_number(answers: Answers, number: bytes) -> bool:
    """True if the answers are to the query that had the number, and not to another one."""
    first = answers[0][0] if answers else None
    return (
        first is not None
        and first.status == ExecStatus.TUPLES_OK
        and first.ntuples > 0
        and first.get_value(0, 0) == number
    )


@lru_cache(maxsize=1024)
def _with_number(text: bytes) -> bytes:
    return b"SELECT $1, " + text.removeprefix(b"SELECT ")
