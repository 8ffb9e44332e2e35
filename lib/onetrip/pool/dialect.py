"""The dialect of `postgresql+onetrip://`: every engine connects, pools and validates as the package does."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Engine, Pool, QueuePool
from sqlalchemy.dialects import registry

from .. import retries
from ..connection.connector import BUDGET_SECONDS, connect_arguments
from ..connection.dialect import SingleFlightAsyncDialect, SingleFlightDialect
from ..connection.single_flight import FlightAsyncConnection, FlightConnection
from ..deadlines import deadline
from ..platform import Platform, ca_file
from ..url.database_url import DatabaseURL
from . import validation
from .sizing import PLANS

NAME = "onetrip"
_TINY = PLANS["tiny"]


class TinyPool(QueuePool):
    """SQLAlchemy's pool with the defaults of a function: two connections, newest first, recycled early."""

    def __init__(
        self,
        creator: Any,
        *,
        pool_size: int = _TINY.size,
        max_overflow: int = _TINY.max_overflow,
        timeout: float = _TINY.timeout_seconds,
        recycle: int = int(_TINY.recycle_seconds),
        **options: Any,
    ) -> None:
        options = {"pool_size": pool_size, "max_overflow": max_overflow, "timeout": timeout, **options}
        super().__init__(creator, recycle=recycle, **{"use_lifo": True, **options})


class AsyncTinyPool(TinyPool, AsyncAdaptedQueuePool):
    """`TinyPool` for async engines."""


class _Connecting:
    """The part of both dialects that runs before a first statement."""

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Validate each connection of the engine's pool when it is checked out."""
        recycle_seconds: float = engine.pool._recycle  # noqa: SLF001  (it has no other name)
        validation.watch(engine, expires_seconds=recycle_seconds if recycle_seconds > 0 else math.inf)

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """The driver's arguments for `url`, with TLS wherever the host is not this machine."""
        parsed = DatabaseURL.parse(url.render_as_string(hide_password=False))
        return [], connect_arguments(parsed.secured(None, ca_file()), FlightConnection)


class OnetripDialect(_Connecting, SingleFlightDialect):
    """For `create_engine`."""

    driver = NAME
    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[OnetripAsyncDialect]:  # noqa: ARG003  (SQLAlchemy's)
        """The same for `create_async_engine`."""
        return OnetripAsyncDialect

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:  # noqa: ARG003  (SQLAlchemy's)
        """A tiny pool where instances multiply, SQLAlchemy's own elsewhere."""
        return TinyPool if Platform.current().is_serverless else QueuePool

    def connect(self, *_: Any, **arguments: Any) -> Any:
        """Connect, again while the failure is transient and the deadline leaves time."""
        with deadline(BUDGET_SECONDS):
            return retries.connecting(lambda: FlightConnection.connect(**arguments))


class OnetripAsyncDialect(_Connecting, SingleFlightAsyncDialect):
    """For `create_async_engine`."""

    driver = NAME
    supports_statement_cache = True

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:  # noqa: ARG003  (SQLAlchemy's)
        """A tiny pool where instances multiply, SQLAlchemy's own elsewhere."""
        return AsyncTinyPool if Platform.current().is_serverless else AsyncAdaptedQueuePool

    def connect(self, *_: Any, **arguments: Any) -> Any:
        """Connect, again while the failure is transient and the deadline leaves time."""
        arguments.setdefault("async_creator_fn", _connect)
        return super().connect(**arguments)


async def _connect(**arguments: Any) -> FlightAsyncConnection:
    with deadline(BUDGET_SECONDS):
        return await retries.async_connecting(lambda: FlightAsyncConnection.connect(**arguments))


# Installed by pip it is an entry point; here, where the package is a folder, this does the same.
registry.register(f"postgresql.{NAME}", __name__, OnetripDialect.__name__)
