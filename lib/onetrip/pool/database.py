"""Settings become engines: one pool of each kind for a process, made on first use."""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import configure_mappers

from ..connection import early
from ..connection.connector import async_connector, connector
from ..connection.single_flight import (
    FlightAsyncConnection,
    FlightConnection,
    SteppedAsyncConnection,
    SteppedConnection,
)
from ..connection.source import source_for
from ..observability import idle_holds, slow_queries
from ..observability import otel as measures
from ..process import process
from ..settings.settings import Settings, get_settings, settings_for
from ..url.database_url import DatabaseURL
from . import ends, refused_writes, second_session
from .checkouts import PoolState, PoolWatch
from .dialect import NAME
from .engines import ReadingEngine
from .limited_pool import LimitedAsyncQueuePool, LimitedNullPool, LimitedQueuePool
from .limiter import Limiter
from .locked_cached_property import locked_cached_property
from .sizing import pool_kind, pool_plan, with_jitter

if TYPE_CHECKING:
    from ..shared_reads.hubs import SharedReads


class Database:
    """The engines of one database; each is made on first use, and nothing connects before a query."""

    def __init__(self, settings: Settings | str) -> None:
        """`settings`, or a URL: then everything else has its default, and no environment is read."""
        self.settings = settings_for(settings) if isinstance(settings, str) else settings
        settings = self.settings
        self.source = source_for(settings)
        # Reading sessions connect there, or to the primary while it is down.
        self._replica = settings.database_replica_url
        # Reading sessions of routes that are open now, and queries without a session.
        self.readers: set[object] = set()

    @property
    def url(self) -> DatabaseURL:
        """The URL that serves requests, read from its secret if it is kept in one."""
        return self.source.current()

    @locked_cached_property
    def engine(self) -> Engine:
        """The engine for sync sessions."""
        return self._engine()

    @locked_cached_property
    def async_engine(self) -> AsyncEngine:
        """The engine for async sessions, with the same options."""
        return self._async_engine()

    @locked_cached_property
    def reading_engine(self) -> Engine:
        """The engine for sync reading sessions: the same, unless there is a replica."""
        return self._engine(self._replica) if self._replica else self.engine

    @locked_cached_property
    def async_reading_engine(self) -> AsyncEngine:
        """The engine for async reading sessions: the same, unless there is a replica."""
        return self._async_engine(self._replica) if self._replica else self.async_engine

    @locked_cached_property
    def reading_options_engine(self) -> Engine:
        """The engine of sync reading sessions, made once: options make an engine of their own."""
        return ReadingEngine(self.reading_engine)

    @locked_cached_property
    def async_reading_options_engine(self) -> AsyncEngine:
        """The engine of async reading sessions."""
        return AsyncEngine(ReadingEngine(self.async_reading_engine.sync_engine))

    def prepare(self) -> None:
        """Make what the first sync session needs, ahead of it. Nothing connects."""
        configure_mappers()
        _ = self.engine

    @property
    def single_flight(self) -> bool:
        """True if a transaction's parts share a round trip; if not, each is waited for."""
        return self.settings.database_single_flight == "on"

    @property
    def capacity(self) -> int:
        """Connections that this process may use at once."""
        plan = pool_plan(self.settings)
        return plan.size + plan.max_overflow

    @locked_cached_property
    def limiter(self) -> Limiter:
        """The places for connections to the primary, `capacity` of them, for sync and async code together."""
        return Limiter(self.capacity, pool_plan(self.settings).timeout_seconds)

    @locked_cached_property
    def replica_limiter(self) -> Limiter:
        """The same for the replica, which is another server; without one, the primary's."""
        return Limiter(self.capacity, self.limiter.timeout_seconds) if self._replica else self.limiter

    @property
    def shares_now(self) -> bool:
        """True if several requests read at once, or did before."""
        return (len(self.readers) > 1 or "shared_reads" in self.__dict__) and self.shares_reads

    @locked_cached_property
    def shares_reads(self) -> bool:
        """True if reads of concurrent requests may share connections, which then outlive each of them."""
        keeps = pool_kind(self.settings) != "null" and not self.settings.platform.serves_one_request_at_a_time
        return keeps and self.single_flight and self.settings.database_shared_reads == "on"

    @locked_cached_property
    def shared_reads(self) -> SharedReads:
        """The connections that reads of concurrent requests share."""
        from ..shared_reads.hubs import SharedReads  # noqa: PLC0415  (only where it is on)

        return SharedReads(self)

    @locked_cached_property
    def pool_watch(self) -> PoolWatch:
        """The checkouts of all pools, and their holders."""
        return PoolWatch(self.settings.leak_seconds)

    @property
    def pool_state(self) -> PoolState:
        """The state of this process's pools."""
        sync = self._made("engine", "reading_engine")
        asynchronous = self._made("async_engine", "async_reading_engine")
        pools = {engine.pool for engine in (*sync, *asynchronous)}
        return PoolState.of(list(pools), pool_plan(self.settings).size, self.pool_watch)

    def _engine(self, replica: DatabaseURL | None = None) -> Engine:
        connection_class = FlightConnection if self.single_flight else SteppedConnection
        engine = create_engine(
            _display_url(replica or self.source.known),
            creator=connector(connection_class, self.source, replica),
            **_engine_options(self.settings, LimitedQueuePool),
        )
        self._watch(engine, self.replica_limiter if replica else self.limiter)
        return engine

    def _async_engine(self, replica: DatabaseURL | None = None) -> AsyncEngine:
        connection_class = FlightAsyncConnection if self.single_flight else SteppedAsyncConnection
        engine = create_async_engine(
            _display_url(replica or self.source.known),
            async_creator=async_connector(connection_class, self.source, replica),
            **_engine_options(self.settings, LimitedAsyncQueuePool),
        )
        self._watch(engine.sync_engine, self.replica_limiter if replica else self.limiter)
        return engine

    def _watch(self, engine: Engine, limiter: Limiter) -> None:
        pool: Any = engine.pool
        pool.behind(limiter, waits_in_tasks=engine.dialect.is_async)
        self.pool_watch.watch(engine)
        slow_queries.watch(engine, self.settings.slow_query_seconds)
        refused_writes.watch(engine)
        second_session.watch(engine)
        ends.watch(engine)
        if not self.settings.is_production:
            idle_holds.watch(engine)
        measures.observe_statements(engine)

    def close(self) -> None:
        """Close the idle connections of all engines; the next use opens new ones."""
        early.close(self.source)
        for shared in self._made("shared_reads"):
            shared.close()
        for engine in self._made("engine", "reading_engine"):
            engine.dispose()
        for engine in self._made("async_engine", "async_reading_engine"):
            # In a thread: the caller's may have a loop that runs, as in a signal handler.
            disposal = Thread(target=asyncio.run, args=[engine.dispose()])
            disposal.start()
            disposal.join()

    async def aclose(self) -> None:
        """Close the idle connections of all engines, the async ones properly."""
        early.close(self.source)
        for shared in self._made("shared_reads"):
            shared.close()
        for engine in self._made("async_engine", "async_reading_engine"):
            await engine.dispose()
        for engine in self._made("engine", "reading_engine"):
            engine.dispose()

    def _made(self, *names: str) -> list[Any]:
        return [self.__dict__[name] for name in names if name in self.__dict__]


def database() -> Database:
    """The process's database, made from its settings on first use."""
    return process.database.get(lambda: Database(get_settings()))


def reset() -> None:
    """Forget the process's database and settings, so that the next use reads both anew."""
    process.reset()


def _engine_options(settings: Settings, pool_class: type) -> dict[str, Any]:
    plan = pool_plan(settings)
    options: dict[str, Any] = {
        "echo": settings.database_echo,
        "hide_parameters": not settings.database_echo,
        "use_native_hstore": False,
    }
    if pool_kind(settings) == "null":
        return options | {"poolclass": LimitedNullPool}
    return options | {
        "poolclass": pool_class,
        "pool_size": plan.size,
        "max_overflow": plan.max_overflow,
        "pool_timeout": plan.timeout_seconds,
        "pool_recycle": with_jitter(plan.recycle_seconds),
        "pool_use_lifo": True,
    }


def _display_url(url: DatabaseURL | None) -> URL:
    """The URL that an engine shows. It connects by other means, so the password is left out."""
    url = url or DatabaseURL()
    host = url.host if url.host and not url.host.startswith(("/", "@")) else None
    # SQLAlchemy writes a host as it is, an IPv6 address's zone included.
    host = host and host.replace("%", "%25")
    return URL.create(f"postgresql+{NAME}", url.user, None, host, url.port, url.database)
