"""A stand-in for SQLAlchemy's connection: its statements are reads of a hub, each sent on any line."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import abc, errors
from psycopg.adapt import Transformer
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import tuple_row
from sqlalchemy import Engine, NullPool
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.util import await_only

from ..connection.cursor import FlightCursor
from ..connection.flights import check_deadline
from ..connection.preamble import Preamble
from ..connection.protocol import Answers, Message, first_error
from ..deadlines import Deadline, current_deadline
from ..observability.request_stats import current_stats
from .read import NotShareableError

if TYPE_CHECKING:
    from .hub import Hub

_ENCODING = "utf-8"
# The server's answer, and what makes Python's values of its rows.
Asked = tuple[PGresult, abc.Transformer]


class _Context:
    """The types that a cursor adapts, by a connection's parameters once there is one."""

    def __init__(self, adapters: Any, connection: Any) -> None:
        self.adapters = adapters
        self.connection = connection


class _Nowhere:
    """The state of a connection between two statements."""

    transaction_status = TransactionStatus.IDLE
    pipeline_status = 0
    status = 0
    # Asked by cursors, of a connection that is not there.
    _encoding = _ENCODING


def _refuse_errors(answers: Answers) -> None:
    if error := first_error(answers):
        raise errors.error_from_result(error, encoding=_ENCODING)


class SeatCursor(FlightCursor):
    """A cursor whose statement is a read of its seat's hub."""

    __slots__ = ()
    _conn: Any

    def execute(self, query: Any, params: Any = None, **_: Any) -> Any:
        """Send the statement as a read, and return with its whole result."""
        check_deadline()
        self._reset()
        self._tx = Transformer(_Context(self._adapters, None))
        converted = self._query = self._convert_query(query, params)
        message = Message(converted.query, converted.params, converted.types, converted.formats, self.format)
        self._conn.answer(message, self._take)
        self._last_query = query
        return self

    def executemany(self, *_: Any, **__: Any) -> Any:
        """Refuse several statements: they need a connection of their own."""
        raise NotShareableError

    copy = stream = executemany

    async def _async_soft_close(self) -> None:
        """Release nothing, as SQLAlchemy asks of the cursors of async sessions: the result is here."""

    def _take(self, answers: Answers, connection: Any) -> None:
        _refuse_errors(answers)
        # Dates and times are read as the server's session writes them.
        self._tx = Transformer(_Context(self._adapters, connection))
        self._check_results(answers[-1])
        self._set_results(answers[-1])


class _Received:
    """Takes the answer to one statement."""

    __slots__ = ("_adapters", "found")
    found: Asked

    def __init__(self, adapters: Any) -> None:
        self._adapters = adapters

    def __call__(self, answers: Answers, connection: Any) -> None:
        _refuse_errors(answers)
        adapter, result = Transformer(_Context(self._adapters, connection)), answers[-1][-1]
        # Finds the ways to read its columns, some by what the connection says.
        adapter.set_pgresult(result)
        self.found = result, adapter


class _counted:  # noqa: N801  (used like a function)
    """Add the block to the request's round trips and to its time in the database."""

    __slots__ = ("_begin", "_stats")

    def __enter__(self) -> None:
        self._stats, self._begin = current_stats(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if self._stats:
            self._stats.round_trips += 1
            self._stats.db_seconds += time.perf_counter() - self._begin


class Seat:
    """The stand-in for a connection; nothing of it is on the server between two statements."""

    closed = broken = False
    autocommit = is_idle = True
    # There is no transaction to be left.
    only_read = False
    prepare_threshold = None
    row_factory = staticmethod(tuple_row)
    pgconn: Any = _Nowhere
    # Asked by what adapts parameters.
    connection = None
    _pipeline = None

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.preamble = Preamble(autocommit=True, read_only=True)
        self.adapters = psycopg.adapters

    def cursor(self, name: str | None = None, **_: Any) -> SeatCursor:
        """A cursor for one whole result."""
        if name:
            raise NotShareableError
        seat: Any = self
        cursor: SeatCursor = SeatCursor(seat)
        return cursor

    def answer(self, message: Message, receive: Any) -> None:
        """Wait for the message's answer, in a worker thread or in a greenlet of the loop."""
        until, messages = self._until(), self._messages(message)
        with _counted():
            if self._hub.is_here:
                await_only(self._hub.answer(messages, until, receive))
            else:
                self._hub.answer_in_thread(messages, until, receive)

    def asked(self, message: Message) -> Asked:
        """The answer to one statement that no cursor has to show, and what makes Python's values of it."""
        check_deadline()
        received = _Received(self.adapters)
        self.answer(message, received)
        return received.found

    async def async_asked(self, message: Message) -> Asked:
        """`asked` in the loop."""
        check_deadline()
        received, until, messages = _Received(self.adapters), self._until(), self._messages(message)
        with _counted():
            await self._hub.answer(messages, until, received)
        return received.found

    def _messages(self, message: Message) -> list[Message]:
        return [*self.preamble.of_caller(_ENCODING), message]

    def _until(self) -> Deadline:
        until = current_deadline()
        if until is None or not self.preamble.autocommit or not self.preamble.read_only:
            raise NotShareableError
        return until

    @property
    def driver_connection(self) -> Seat:
        """Itself: it is the record of a connection, too."""
        return self

    def checkin(self, **_: Any) -> None:
        """Do nothing: nothing was taken."""

    def commit(self) -> None:
        """Do nothing: each statement was a transaction of its own."""

    rollback = close = commit


class _Seats(NullPool):
    """A pool whose connections are seats, made when they are asked for."""

    def __init__(self, hub: Hub, dialect: Any) -> None:
        super().__init__(lambda: Seat(hub), dialect=dialect)  # type: ignore[arg-type]
        self.take = partial(Seat, hub)


class SeatEngine(OptionEngine):
    """The engine of a hub's sessions: that of the pool in all but its connections, events too."""

    def __init__(self, proxied: Engine, hub: Hub) -> None:
        super().__init__(proxied, {})
        self._seats = _Seats(hub, proxied.dialect)

    @property
    def pool(self) -> Any:  # type: ignore[override]  # a property there, too
        """The pool of seats."""
        return self._seats
