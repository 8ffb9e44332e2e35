"""Cursors whose first statement takes along the preamble of their connection, and the last one the COMMIT."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.pq import Format
from psycopg.pq.abc import PGresult

from ..observability.request_stats import note_round_trips
from .late_rollback import only_reads
from .protocol import MOST_PARAMETERS, Message, Steps

if TYPE_CHECKING:
    from .flights import Flight


def _first_words(words: bytes) -> re.Pattern[bytes]:
    """What matches a statement that begins so, after blanks and comments."""
    # Atomic: many comments are not tried in every division.
    blank = rb"(?>\s|--[^\n]*\n|/\*.*?\*/)"
    return re.compile(
        blank + b"*+(?:" + words.replace(b" ", blank + b"++") + rb")\b", re.IGNORECASE | re.DOTALL
    )


# The transaction's own options come before its first query, and the settings are one.
_OF_TRANSACTION = _first_words(rb"SET (?:LOCAL )?TRANSACTION")
_BEGINS = _first_words(rb"BEGIN|START TRANSACTION")
# The server refuses these outside a transaction, where they would do nothing that lasts.
_WITHIN_TRANSACTION = _first_words(
    rb"SAVEPOINT|RELEASE|ROLLBACK (?:WORK |TRANSACTION )?TO|LOCK|DECLARE\b(?!.*\bHOLD\b)"
)
_ENDS = b"; \t\r\n"
# The end of a transaction as a statement, by itself or after others; a word in quotes or comments is none.
COMMITS = re.compile(
    r"(?:(?>[^;'\"$/-]+|--[^\n]*|/\*.*?\*/|'[^']*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|[^;])*+;)*?"
    r"(?>\s|--[^\n]*\n|/\*.*?\*/)*+(?:COMMIT|END|PREPARE\s+TRANSACTION)\b",
    re.IGNORECASE | re.DOTALL,
)


class _SingleFlight:
    """The generators of both cursors; `_conn` is a FlightConnection or its async twin."""

    __slots__ = ()

    def _execute_gen(
        self: Any, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Steps[None]:
        connection = self._conn
        flight: Flight | None = None
        commits = isinstance(query, str) and COMMITS.match(query) and not connection.is_piping
        if not connection.is_piping and not prepare and connection.prepare_threshold is None:
            flight = connection.take_off()
        message = (yield from self.message(query, params, binary=binary)) if flight else None
        if flight is None or message is None:
            yield from connection.answered()
            only_read = connection.only_read
            if commits:
                yield from connection.check_commit()
            yield from super()._execute_gen(query, params, prepare=prepare, binary=binary)  # type: ignore[misc]
            connection.only_read = only_read and only_reads(query, self.statusmessage)
            connection.heard()
            return
        if not params:
            flight = _suited(flight, message.text)
        if commits:
            flight = flight._replace(stores=True)
        answers = yield from connection.fly(flight, [message])
        self.receive(answers[0], query)

    def message(self: Any, query: Any, params: Any, *, binary: bool | None = None) -> Steps[Message | None]:
        """The statement as a message; None if it can only go by itself, being several."""
        preamble = self._conn.preamble
        outer, preamble.alone = preamble.alone, True
        try:
            yield from self._start_query(query)
        finally:
            preamble.alone = outer
        converted = self._convert_query(query, params)
        if not converted.params and b";" in converted.query.rstrip(_ENDS):
            return None
        result_format = self.format if binary is None else Format(binary)
        return Message(converted.query, converted.params, converted.types, converted.formats, result_format)

    def _convert_query(self: Any, query: Any, params: Any = None) -> Any:
        converted = super()._convert_query(query, params)  # type: ignore[misc]  # psycopg's
        if converted.params and len(converted.params) > MOST_PARAMETERS:
            raise errors.ProgramLimitExceeded(
                f"the statement has {len(converted.params)} parameters, and the protocol counts to "
                f"{MOST_PARAMETERS}. Send a list as one array, or the rows in several statements"
            )
        return converted

    def receive(self: Any, results: Any, query: Any) -> None:
        """Show the results as those of the statement."""
        self._check_results(results)
        self._set_results(results)
        self._last_query = query


def _suited(flight: Flight, text: bytes) -> Flight:
    """The messages around a statement that is about transactions itself."""
    if flight.ahead and _OF_TRANSACTION.match(text):
        return flight._replace(ahead=flight.ahead[:1], behind=[*flight.ahead[1:], *flight.behind])
    if flight.is_own and _BEGINS.match(text):
        return flight._replace(behind=[], stores=False)
    if flight.is_own and _WITHIN_TRANSACTION.match(text):
        # What stands before one Sync would be a transaction to the server.
        return flight._replace(ahead=[], behind=[], stores=False)
    return flight


def asked_alone(connection: Any, message: Message) -> Steps[PGresult]:
    """The answer to one statement that only reads, which no cursor has to show."""
    flight: Flight | None = connection.take_off()
    if flight is None:
        raise psycopg.OperationalError("the connection is closed, or at work with something else")
    answers = yield from connection.fly(flight, [message])
    result: PGresult = answers[0][-1]
    return result


class FlightCursor(_SingleFlight, psycopg.Cursor[Any]):
    """A cursor whose statement takes along the preamble of its connection."""

    __slots__ = ()

    def stream(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """psycopg's, which looks for an open pipeline before it asks."""
        _settled(self)
        yield from super().stream(*arguments, **options)


class FlightAsyncCursor(_SingleFlight, psycopg.AsyncCursor[Any]):
    """`FlightCursor` for async connections."""

    __slots__ = ()

    async def stream(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any]:
        """psycopg's, which looks for an open pipeline before it asks."""
        await _settled(self)
        rows: Any = super().stream(*arguments, **options)
        async with aclosing(rows):
            async for row in rows:
                yield row


def _settled(cursor: Any) -> Any:
    """Read the answer to a late ROLLBACK."""
    return cursor.connection.settle()


class _Declared:
    def _declare_gen(self: Any, *arguments: Any, **options: Any) -> Steps[None]:
        # Once declared, it is asked for its columns.
        note_round_trips()
        yield from super()._declare_gen(*arguments, **options)  # type: ignore[misc]  # psycopg's

    def __del__(self: Any, *warn: Any) -> None:
        # A cancelled stream's connection is closed, and the server's cursor with it: nothing is left open.
        if not self._conn.closed:
            super().__del__(*warn)  # type: ignore[misc]  # psycopg's


class FlightServerCursor(_Declared, psycopg.ServerCursor[Any]):
    """A server-side cursor that is counted as it asks."""

    def execute(self, *arguments: Any, **options: Any) -> Any:
        """psycopg's, which looks for an open pipeline before it asks."""
        _settled(self)
        return super().execute(*arguments, **options)


class FlightAsyncServerCursor(_Declared, psycopg.AsyncServerCursor[Any]):
    """`FlightServerCursor` for async connections."""

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        """psycopg's, which looks for an open pipeline before it asks."""
        await _settled(self)
        return await super().execute(*arguments, **options)
