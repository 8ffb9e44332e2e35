"""Settings become engines: one pool of each kind for a process, made on first use."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Engine, NullPool, QueuePool, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from lib.database_url import DatabaseURL
from lib.settings import Settings, get_settings

APPLICATION_NAME = "fastapi-on-neon"
CONNECT_TIMEOUT_SECONDS = 10
# A part of the recycle age is random, so that instances born together do not reconnect together.
_RECYCLE_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """How many connections one process keeps, and for how long."""

    size: int
    max_overflow: int
    timeout_seconds: float
    recycle_seconds: float


# Instances x (size + overflow) must stay below what the server takes: 10,000 clients behind Neon's
# pooler, so 5,000 instances of 2. Recycling at 240 s stays below Neon's suspension after 300 s.
PLANS: dict[str, PoolPlan | None] = {
    "tiny": PoolPlan(size=2, max_overflow=0, timeout_seconds=10, recycle_seconds=240),
    "server": PoolPlan(size=5, max_overflow=5, timeout_seconds=10, recycle_seconds=1800),
    "null": None,
}


def pool_plan(settings: Settings) -> PoolPlan | None:
    """The pool that `settings` ask for on their platform; None keeps no connections."""
    plan = PLANS[settings.database_pool or ("tiny" if settings.platform.is_serverless else "server")]
    if plan is None:
        return None
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
        return create_engine(
            _display_url(self.url),
            connect_args=connect_arguments(self.url),
            **_engine_options(self.settings, QueuePool),
        )

    @cached_property
    def async_engine(self) -> AsyncEngine:
        """The engine for async sessions, with the same options."""
        return create_async_engine(
            _display_url(self.url),
            connect_args=connect_arguments(self.url),
            **_engine_options(self.settings, AsyncAdaptedQueuePool),
        )

    @property
    def capacity(self) -> int | None:
        """Connections that one engine can hold at once; None when it keeps none and has no bound."""
        plan = pool_plan(self.settings)
        return plan and plan.size + plan.max_overflow

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
    """An engine on the direct URL, whatever the switch says, that keeps no connection."""
    url = settings.direct_url
    return create_engine(
        _display_url(url), connect_args=connect_arguments(url), poolclass=NullPool, use_native_hstore=False
    )


def _engine_options(settings: Settings, pool_class: type) -> dict[str, Any]:
    plan = pool_plan(settings)
    options: dict[str, Any] = {
        "echo": settings.database_echo,
        "hide_parameters": not settings.database_echo,
        "use_native_hstore": False,
    }
    if plan is None:
        return options | {"poolclass": NullPool}
    return options | {
        "poolclass": pool_class,
        "pool_size": plan.size,
        "max_overflow": plan.max_overflow,
        "pool_timeout": plan.timeout_seconds,
        "pool_recycle": plan.recycle_seconds * random.uniform(1 - _RECYCLE_JITTER, 1),  # noqa: S311
        "pool_use_lifo": True,
        "pool_pre_ping": True,
    }


def connect_arguments(url: DatabaseURL) -> dict[str, Any]:
    """What every connection, sync or async, is opened with; the URL's own parameters win."""
    return {
        "application_name": APPLICATION_NAME,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # A prepared statement belongs to one server connection, and a pooler hands out another.
        "prepare_threshold": None,
    } | url.connect_arguments()


def _display_url(url: DatabaseURL) -> URL:
    """What an engine shows of itself. It connects by `connect_args`, so the password is left out."""
    host = url.host if url.host and not url.host.startswith(("/", "@")) else None
    return URL.create("postgresql+psycopg", url.user, None, host, url.port, url.database)

