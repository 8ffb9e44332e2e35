"""Settings become engines: one pool of each kind for a process, made on first use."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Engine, NullPool, QueuePool, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from lib import liveness, plain_flight, retry
from lib.connection import BoundedAsyncConnection, BoundedConnection
from lib.database_url import DatabaseURL
from lib.deadline import deadline
from lib.gate import Gate
from lib.settings import Settings, get_settings
from lib.single_flight import FlightAsyncConnection, FlightConnection

APPLICATION_NAME = "fastapi-on-neon"
# One attempt to connect, and all attempts together where no request's deadline is shorter.
CONNECT_TIMEOUT_SECONDS = 10
CONNECT_BUDGET_SECONDS = 15.0
# A part of the recycle age is random, so that instances born together do not reconnect together.
_RECYCLE_JITTER = 0.1

registry.register("postgresql.single_flight", "lib.dialect", "SingleFlightDialect")


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """How many connections one process keeps, and for how long."""

    size: int
    max_overflow: int
    timeout_seconds: float
    recycle_seconds: float


# How many connections a process may hold at once; "null" keeps none of them between requests.
# Instances x (size + overflow) must stay below what the server takes: 10,000 clients behind Neon's
# pooler, so 5,000 instances of 2. Recycling at 240 s stays below Neon's suspension after 300 s.
PLANS: dict[str, PoolPlan] = {
    "tiny": PoolPlan(size=2, max_overflow=0, timeout_seconds=10, recycle_seconds=240),
    "server": PoolPlan(size=5, max_overflow=5, timeout_seconds=10, recycle_seconds=1800),
    "null": PoolPlan(size=2, max_overflow=0, timeout_seconds=10, recycle_seconds=240),
}


def pool_kind(settings: Settings) -> str:
    """The pool's kind: as set, or by platform."""
    return settings.database_pool or ("tiny" if settings.platform.is_serverless else "server")


def pool_plan(settings: Settings) -> PoolPlan:
    """The pool that `settings` ask for on their platform."""
    plan = PLANS[pool_kind(settings)]
    # Managed instances fork a worker for each concurrent request, and each has a pool of its own.
    if settings.platform.name == "lambda-managed-instances":
        plan = replace(plan, size=1)
    given = {field.name: getattr(settings, f"pool_{field.name}") for field in fields(PoolPlan)}
    return replace(plan, **{name: value for name, value in given.items() if value is not None})


class Database:
    """The engines of one database; each is made on first use, and nothing connects before a query."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = settings.application_url

    @cached_property
    def engine(self) -> Engine:
        """The engine for sync sessions."""
        connection_class = FlightConnection if self.single_flight else BoundedConnection
        engine = create_engine(
            _display_url(self.url, single_flight=self.single_flight),
            creator=_connector(connection_class, self.url),
            **_engine_options(self.settings, QueuePool),
        )
        self._watch(engine)
        return engine

    @cached_property
    def async_engine(self) -> AsyncEngine:
        """The engine for async sessions, with the same options."""
        connection_class = FlightAsyncConnection if self.single_flight else BoundedAsyncConnection
        engine = create_async_engine(
            _display_url(self.url, single_flight=self.single_flight),
            async_creator=_async_connector(connection_class, self.url),
            **_engine_options(self.settings, AsyncAdaptedQueuePool),
        )
        self._watch(engine.sync_engine)
        return engine

    @property
    def single_flight(self) -> bool:
        """Whether transactions begin with their first statement, or as the plain driver does it."""
        return self.settings.database_single_flight == "on"

    @property
    def capacity(self) -> int:
        """Connections that this process may use at once."""
        plan = pool_plan(self.settings)
        return plan.size + plan.max_overflow

    @cached_property
    def gate(self) -> Gate:
        """What keeps this process's concurrent units of work within `capacity`."""
        return Gate(self.capacity, pool_plan(self.settings).timeout_seconds)

    def _watch(self, engine: Engine) -> None:
        liveness.watch(engine, expires_seconds=pool_plan(self.settings).recycle_seconds)
        if not self.single_flight:
            plain_flight.install(engine)

    def close(self) -> None:
        """Close the idle connections of both engines; the next use opens new ones."""
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "async_engine" in self.__dict__:
            # Without a running loop nothing can be awaited: the sockets are closed by the collector.
            self.async_engine.sync_engine.dispose(close=False)

    async def aclose(self) -> None:
        """Close the idle connections of both engines, the async ones properly."""
        if "async_engine" in self.__dict__:
            await self.async_engine.dispose()
        self.close()


@lru_cache(maxsize=1)
def database() -> Database:
    """The process's database, made from its settings on first use."""
    return Database(get_settings())


def reset() -> None:
    """Forget the process's database and settings, so that the next use reads both anew."""
    if database.cache_info().currsize:
        database().close()
    database.cache_clear()
    get_settings.cache_clear()


def migration_engine(settings: Settings) -> Engine:
    """A plain engine on the direct URL, whatever the switch says, that keeps no connection."""
    url = settings.direct_url
    return create_engine(
        _display_url(url, single_flight=False), connect_args=connect_arguments(url), poolclass=NullPool
    )


def connect_arguments(url: DatabaseURL) -> dict[str, Any]:
    """What every connection, sync or async, is opened with; the URL's own parameters win."""
    return {
        "application_name": APPLICATION_NAME,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # A prepared statement belongs to one server connection, and a pooler hands out another.
        "prepare_threshold": None,
    } | url.connect_arguments()


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


def _connector(connection_class: type[BoundedConnection], url: DatabaseURL) -> Callable[[], BoundedConnection]:
    # The single flight sends its own BEGIN, so its driver is in autocommit.
    arguments = connect_arguments(url) | {"autocommit": connection_class is FlightConnection}

    def connect() -> BoundedConnection:
        with deadline(CONNECT_BUDGET_SECONDS):
            return retry.connecting(lambda: connection_class.connect(**arguments))

    return connect


def _async_connector(
    connection_class: type[BoundedAsyncConnection], url: DatabaseURL
) -> Callable[..., Awaitable[BoundedAsyncConnection]]:
    arguments = connect_arguments(url) | {"autocommit": connection_class is FlightAsyncConnection}

    async def connect(**_: Any) -> BoundedAsyncConnection:
        with deadline(CONNECT_BUDGET_SECONDS):
            return await retry.async_connecting(lambda: connection_class.connect(**arguments))

    return connect


def _display_url(url: DatabaseURL, *, single_flight: bool) -> URL:
    """What an engine shows of itself. It connects by other means, so the password is left out."""
    host = url.host if url.host and not url.host.startswith(("/", "@")) else None
    driver = "single_flight" if single_flight else "psycopg"
    return URL.create(f"postgresql+{driver}", url.user, None, host, url.port, url.database)
