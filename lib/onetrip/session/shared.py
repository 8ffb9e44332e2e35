"""Reading sessions that share connections, or have one of their own where they need it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, Select, TextClause
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import SessionTransactionOrigin
from sqlalchemy.sql import CompoundSelect
from sqlalchemy.util.concurrency import in_greenlet

from ..deadlines import current_deadline
from ..pool.claims import holds_one
from ..shared_reads.hub import Hub
from ..shared_reads.read import NotShareableError
from .exclusive import exclusive
from .session import NO_OPTIONS, Options, ReadingSession

if TYPE_CHECKING:
    from ..pool.database import Database

# Options that need a connection of their own.
_OWN = frozenset(
    {"stream_results", "yield_per", "max_row_buffer", "isolation_level", "postgresql_deferrable"}
)
_READS = re.compile(r"\s*(SELECT|WITH|VALUES|TABLE)\b[^;]*$", re.IGNORECASE)


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
        if current_deadline() is None or not hub.serves or self._keeps_connection or holds_one(hub.limiter):
            return False
        if hub.is_here and not in_greenlet():
            # Waiting in the loop would stop the loop, which reads the answers.
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


@contextmanager
def sharing(database: Database, options: Options = NO_OPTIONS) -> Iterator[ReadingSession]:
    """`reading`, for a request of an event loop that serves several at once; entered in the loop."""
    hub, seats = database.shared_reads.here()
    own = database.reading_options_engine
    if options:
        own = own.execution_options(**options)
        seats = seats.execution_options(**options)
    session = SharingSession(hub, seats, own)
    hub.sessions += 1
    try:
        yield session
    finally:
        hub.sessions -= 1
        session.end()


@asynccontextmanager
async def async_sharing(database: Database, options: Options = NO_OPTIONS) -> AsyncIterator[AsyncSession]:
    """`sharing` for async code."""
    hub, seats = database.shared_reads.here()
    own = database.async_reading_options_engine
    if options:
        own = own.execution_options(**options)
        seats = seats.execution_options(**options)

    def made(bind: Any, **_: Any) -> SharingSession:
        return SharingSession(hub, seats, bind)

    hub.sessions += 1
    try:
        async with AsyncSession(own, sync_session_class=made, expire_on_commit=False) as session:  # type: ignore[arg-type]
            try:
                yield session
            finally:
                session.sync_session.has_ended = True  # type: ignore[attr-defined]
    finally:
        hub.sessions -= 1
