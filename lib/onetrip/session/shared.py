"""Reading sessions that share connections, or have one of their own where they need it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, Select, TextClause
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import SessionTransactionOrigin
from sqlalchemy.sql import CompoundSelect
from sqlalchemy.util.concurrency import in_greenlet

from ..deadlines import current_deadline
from ..pool.claims import holds_one
from ..shared_reads.read import NotShareableError
from .exclusive import exclusive
from .session import NO_OPTIONS, E, Options, ReadingSession, async_end

if TYPE_CHECKING:
    from ..pool.database import Database
    from ..shared_reads.hub import Hub

# Options that need a connection of their own.
_OWN = frozenset(
    {"stream_results", "yield_per", "max_row_buffer", "isolation_level", "postgresql_deferrable"}
)
_READS = re.compile(r"\s*(SELECT|WITH|VALUES|TABLE)\b[^;]*$", re.IGNORECASE)


def may_be_asked(hub: Hub) -> bool:
    """True if reads are shared now, and the request that asks holds no connection while it waits."""
    return current_deadline() is not None and hub.serves and not holds_one(hub.limiter)


def may_be_waited_for(hub: Hub) -> bool:
    """True if sync code may wait here: in the loop it would stop the loop, which reads the answers."""
    return in_greenlet() or not hub.is_here


class SharingSession(ReadingSession):
    """A reading session whose plain queries share a connection with those of other requests."""

    not_sent = (NotShareableError,)

    def __init__(self, hub: Hub, seats: Engine, own: Engine) -> None:
        super().__init__(own, expire_on_commit=False)
        self._hub = hub
        self._seats = seats
        self._shares = False

    def get_bind(self, *arguments: Any, **options: Any) -> Any:
        """The engine of seats while a query is shared, else that of the pool."""
        if self._shares and not self._flushing:
            return self._seats
        return super().get_bind(*arguments, **options)

    def engine_to_ask(self) -> Any:
        """The engine of seats if the query may be shared."""
        return self._seats if self._may_sit() else self.bind

    @exclusive
    def _execute_internal(self, statement: Any, params: Any = None, **options: Any) -> Any:
        before = self._shares
        self._shares = self._may_sit() and _may_share(statement, params, options)
        try:
            return super()._execute_internal(statement, params, **options)
        except NotShareableError:
            # It was not sent.
            self._shares = False
            return super()._execute_internal(statement, params, **options)
        finally:
            self._shares = before

    def _may_sit(self) -> bool:
        """True if a plain query may be shared now."""
        hub, transaction = self._hub, self.get_transaction()
        if self._keeps_connection or not may_be_asked(hub) or not may_be_waited_for(hub):
            return False
        return transaction is None or (
            transaction.origin is SessionTransactionOrigin.AUTOBEGIN and not transaction._connections  # noqa: SLF001
        )


def _may_share(statement: Any, params: Any, options: Mapping[str, Any]) -> bool:
    if options.get("bind_arguments") or isinstance(params, list | tuple) or not _is_read(statement):
        return False
    asked = {**statement.get_execution_options(), **(options.get("execution_options") or {})}
    return _OWN.isdisjoint(asked)


def _is_read(statement: Any) -> bool:
    if isinstance(statement, TextClause):
        return bool(_READS.match(statement.text))
    return isinstance(statement, Select | CompoundSelect)


class _Shared:
    """A block with a session on the connections of the loop that it is entered in."""

    def __init__(self, database: Database, options: Options = NO_OPTIONS) -> None:
        self._database = database
        self._options = options

    def _engines(self, own: E) -> tuple[Hub, Engine, E]:
        """The loop's connections, the engine of their seats, and the one for what they do not take."""
        (hub, seats), options = self._database.shared_reads.here(), self._options
        if options:
            return hub, seats.execution_options(**options), own.execution_options(**options)
        return hub, seats, own


class sharing(_Shared):  # noqa: N801  (used like a function)
    """`reading`, for a request of an event loop that serves several at once; entered in the loop."""

    def __enter__(self) -> ReadingSession:
        self._hub, seats, own = self._engines(self._database.reading_options_engine)
        self._session = SharingSession(self._hub, seats, own)
        self._hub.readers.add(self)
        return self._session

    def __exit__(self, *_: object) -> None:
        self._hub.readers.discard(self)
        self._session.end()


class async_sharing(_Shared):  # noqa: N801
    """`sharing` for async code."""

    async def __aenter__(self) -> AsyncSession:
        self._hub, seats, own = self._engines(self._database.async_reading_options_engine)
        made: Any = lambda bind, **_: SharingSession(self._hub, seats, bind)  # noqa: E731  (in place of a class)
        self._session = AsyncSession(own, sync_session_class=made, expire_on_commit=False)
        self._hub.readers.add(self)
        return self._session

    async def __aexit__(self, *_: object) -> None:
        try:
            await async_end(self._session)
        finally:
            self._hub.readers.discard(self)
