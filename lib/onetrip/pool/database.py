"""Settings become engines: one pool of each kind for a process, made on first use."""

from __future__ import annotations

import asyncio
import random
from functools import lru_cache
from threading import RLock, Thread
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Engine, NullPool, QueuePool, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import configure_mappers

from ..connection import plain_driver as plain_flight
from ..connection.bounded import BoundedAsyncConnection, BoundedConnection
from ..connection.connector import async_connector, connector
from ..connection.single_flight import FlightAsyncConnection, FlightConnection
from ..connection.source import source_for
from ..observability import otel as measures
from ..observability import slow_queries
from ..settings.settings import Settings, get_settings, settings_for
from ..url.database_url import DatabaseURL
from . import validation
from .checkouts import PoolState, PoolWatch
from .dialect import NAME
from .limiter import Gate
from .locked_cached_property import made_once
from .sizing import pool_kind, pool_plan

# A part of the recycle age is random, so that instances born together do not reconnect together.
_RECYCLE_JITTER = 0.1

_making = RLock()


class Database:
    """The engines of one database; each is made on first use, and nothing connects before a query."""

    def __init__(self, settings: Settings | str) -> None:
        """`settings`, or a URL: then everything else has its default, and no environment is read."""
        self.settings = settings_for(settings) if isinstance(settings, str) else settings
        settings = self.settings
        self.source = source_for(settings)
        # Where reading sessions connect, or to the primary while it is down.
        self._replica = settings.database_replica_url

    @property
    def url(self) -> DatabaseURL:
        """The URL that serves requests, read from its secret if it is kept in one."""
        return self.source.current()

    @made_once
    def engine(self) -> Engine:
        """The engine for sync sessions."""
        return self._engine()

    @made_once
    def async_engine(self) -> AsyncEngine:
        """The engine for async sessions, with the same options."""
        return self._async_engine()

    @made_once
    def reading_engine(self) -> Engine:
        """The engine for sync reading sessions: the same, unless there is a replica."""
        return self._engine(self._replica) if self._replica else self.engine

    @made_once
    def async_reading_engine(self) -> AsyncEngine:
        """The engine for async reading sessions: the same, unless there is a replica."""
        return self._async_engine(self._replica) if self._replica else self.async_engine

    @made_once
    def reading_options_engine(self) -> Engine:
        """What a sync reading session runs on, made once: options make an engine of their own."""
        return self.reading_engine.execution_options(**self._reading_options)

    @made_once
    def async_reading_options_engine(self) -> AsyncEngine:
        """What an async reading session runs on."""
        return self.async_reading_engine.execution_options(**self._reading_options)

    @property
    def _reading_options(self) -> dict[str, Any]:
        # The plain driver cannot make a single statement read-only, only a transaction.
        options: dict[str, Any] = {"postgresql_readonly": True}
        return options | {"isolation_level": "AUTOCOMMIT"} if self.single_flight else options

    def prepare(self) -> None:
        """Make what the first sync session needs, ahead of it. Nothing connects."""
        configure_mappers()
        _ = self.engine

    @property
    def single_flight(self) -> bool:
        """Whether transactions begin with their first statement, or as the plain driver does it."""
        return self.settings.database_single_flight == "on"

    @property
    def capacity(self) -> int:
        """Connections that this process may use at once."""
        plan = pool_plan(self.settings)
        return plan.size + plan.max_overflow

    @made_once
    def gate(self) -> Gate:
        """What keeps this process's concurrent units of work within `capacity`."""
        return Gate(self.capacity, pool_plan(self.settings).timeout_seconds)

    @made_once
    def pool_watch(self) -> PoolWatch:
        """What knows who holds a connection."""
        return PoolWatch(self.settings.leak_seconds)

    @property
    def pool_state(self) -> PoolState:
        """How full the pools of this process are."""
        sync = self._made("engine", "reading_engine")
        asynchronous = self._made("async_engine", "async_reading_engine")
        pools = {engine.pool for engine in (*sync, *asynchronous)}
        return PoolState.of(list(pools), pool_plan(self.settings).size, self.pool_watch)

    def _engine(self, replica: DatabaseURL | None = None) -> Engine:
        connection_class = FlightConnection if self.single_flight else BoundedConnection
        engine = create_engine(
            _display_url(replica or self.source.known, single_flight=self.single_flight),
            creator=connector(connection_class, self.source, replica),
            **_engine_options(self.settings, QueuePool),
        )
        self._watch(engine)
        return engine

    def _async_engine(self, replica: DatabaseURL | None = None) -> AsyncEngine:
        connection_class = FlightAsyncConnection if self.single_flight else BoundedAsyncConnection
        engine = create_async_engine(
            _display_url(replica or self.source.known, single_flight=self.single_flight),
            async_creator=async_connector(connection_class, self.source, replica),
            **_engine_options(self.settings, AsyncAdaptedQueuePool),
        )
        self._watch(engine.sync_engine)
        return engine

    def _watch(self, engine: Engine) -> None:
        if not self.single_flight:
            # First: a connection that fails validation must not count as checked out.
            validation.watch(engine, expires_seconds=pool_plan(self.settings).recycle_seconds)
        self.pool_watch.watch(engine)
        slow_queries.watch(engine, self.settings.slow_query_seconds)
        measures.observe_statements(engine)
        if not self.single_flight:
            plain_flight.install(engine)

    def close(self) -> None:
        """Close the idle connections of all engines; the next use opens new ones."""
        for engine in self._made("engine", "reading_engine"):
            engine.dispose()
        for engine in self._made("async_engine", "async_reading_engine"):
            # In a thread: the caller's may have a loop that runs, as in a signal handler.
            disposal = Thread(target=asyncio.run, args=[engine.dispose()])
            disposal.start()
            disposal.join()

    async def aclose(self) -> None:
        """Close the idle connections of all engines, the async ones properly."""
        for engine in self._made("async_engine", "async_reading_engine"):
            await engine.dispose()
        for engine in self._made("engine", "reading_engine"):
            engine.dispose()

    def _made(self, *names: str) -> list[Any]:
        return [self.__dict__[name] for name in names if name in self.__dict__]


def database() -> Database:
    """The process's database, made from its settings on first use."""
    with _making:
        return _database()


@lru_cache(maxsize=1)
def _database() -> Database:
    return Database(get_settings())


def reset() -> None:
    """Forget the process's database and settings, so that the next use reads both anew."""
    if _database.cache_info().currsize:
        database().close()
    _database.cache_clear()
    get_settings.cache_clear()


def _engine_options(settings: Settings, pool_class: type) -> dict[str, Any]:
    plan = pool_plan(settings)
    options: dict[str, Any] = {
        "echo": settings.database_echo,
        "hide_parameters": not settings.database_echo,
        "use_native_hstore": False,
    }
    if pool_kind(settings) == "null":
        return options | {"poolclass": NullPool}
    return options | {
        "poolclass": pool_class,
        "pool_size": plan.size,
        "max_overflow": plan.max_overflow,
        "pool_timeout": plan.timeout_seconds,
        "pool_recycle": plan.recycle_seconds * random.uniform(1 - _RECYCLE_JITTER, 1),  # noqa: S311
        "pool_use_lifo": True,
    }


def _display_url(url: DatabaseURL | None, *, single_flight: bool) -> URL:
    """What an engine shows of itself. It connects by other means, so the password is left out."""
    url = url or DatabaseURL()
    host = url.host if url.host and not url.host.startswith(("/", "@")) else None
    driver = NAME if single_flight else "psycopg"
    return URL.create(f"postgresql+{driver}", url.user, None, host, url.port, url.database)
