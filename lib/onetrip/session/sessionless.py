"""Compiled queries asked of a database: without a session, each on its own connection or a shared one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Transformer
from sqlalchemy import Engine
from sqlalchemy.util.concurrency import greenlet_spawn

from ..pool.database import Database
from ..pool.unit import current_part
from ..shared_reads.read import NotShareableError
from .asking import answered, bound_values, is_class_heard, is_unseen, judge, told
from .loading import Loader, Values
from .session import ReadingSession
from .shared import may_be_asked, may_be_waited_for

if TYPE_CHECKING:
    from ..shared_reads.hub import Hub
    from .compiled import CompiledQuery

    Query = CompiledQuery[..., Any]


def fetched(database: Database, query: Query, values: Values) -> list[Any]:
    """The query's results; its instances belong to no session."""
    with _Reader(database) as (hub, seats):
        loader = _loader(query, seats) if hub and may_be_asked(hub) and may_be_waited_for(hub) else None
        if seats and loader:
            try:
                return loader.results(None, *answered(seats, loader, values))
            except NotShareableError:
                # It was not sent.
                pass
        return _fetched_on_own(database.reading_options_engine, query, values)


async def async_fetched(database: Database, query: Query, values: Values) -> list[Any]:
    """`fetched` for async code."""
    with _Reader(database) as (hub, seats):
        loader = _loader(query, seats) if hub and may_be_asked(hub) else None
        if seats and loader:
            try:
                return await _fetched_shared(seats, loader, values)
            except NotShareableError:
                pass
        engine = database.async_reading_options_engine.sync_engine
        found: list[Any] = await greenlet_spawn(_fetched_on_own, engine, query, values)
        return found


class _Reader:
    """One query while it is under way: counted, with the connections that it may share and their engine."""

    __slots__ = ("_database", "_hub")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hub: Hub | None = None

    def __enter__(self) -> tuple[Hub, Engine] | tuple[None, None]:
        database = self._database
        database.readers.add(self)
        part = current_part() if database.shares_now else None
        loop = part.serving_loop if part else None
        if loop is None:
            return None, None
        self._hub, seats = database.shared_reads.of(loop)
        self._hub.readers.add(self)
        return self._hub, seats

    def __exit__(self, *_: object) -> None:
        self._database.readers.discard(self)
        if self._hub:
            self._hub.readers.discard(self)


def _loader(query: Query, engine: Engine | None) -> Loader | None:
    """The query's loader; None if it needs a session, or something listens to those or to statements."""
    if engine is None or not is_unseen(engine) or is_class_heard(ReadingSession):
        return None
    return query.loader(engine.dialect)


def _fetched_on_own(engine: Engine, query: Query, values: Values) -> list[Any]:
    if loader := _loader(query, engine):
        return loader.results(None, *answered(engine, loader, values))
    session = ReadingSession(engine, expire_on_commit=False)
    try:
        return query.fetched(session, values)
    finally:
        session.end()


async def _fetched_shared(seats: Any, loader: Loader, values: Values) -> list[Any]:
    bound, begin, seat = bound_values(seats, loader, values), time.perf_counter(), seats.pool.take()
    try:
        answer, adapter = await seat.async_asked(loader.message(bound, Transformer(seat)))
    except psycopg.Error as error:
        raise told(seats, loader.text, values, error, is_lost=False) from error
    finally:
        judge(seats, loader, begin)
    return loader.results(None, answer, adapter.load_rows(0, answer.ntuples, tuple))
