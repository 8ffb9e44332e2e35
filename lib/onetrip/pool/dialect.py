"""The dialect of `postgresql+onetrip://`: every engine connects, pools and validates as the package does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Engine, Pool
from sqlalchemy.dialects import registry

from .. import retries
from ..connection.connector import BUDGET_SECONDS, connect_arguments
from ..connection.dialect import SingleFlightAsyncDialect, SingleFlightDialect
from ..connection.single_flight import FlightAsyncConnection, FlightConnection
from ..deadlines import deadline
from ..platform import Platform, ca_file
from ..url.database_url import DatabaseURL
from . import validation
from .connect_args import driver_arguments
from .limited_pool import LimitedAsyncQueuePool, LimitedQueuePool, limit
from .sizing import plan_for, with_jitter

NAME = "onetrip"
_FOREIGN = (
    "A creator or a do_connect listener opened a connection of {}'s own. "
    "Let the engine connect: change the arguments that the listener is given, and return nothing."
)


class TinyPool(LimitedQueuePool):
    """A pool with the defaults of a function: few connections, newest first, recycled early."""

    def __init__(self, creator: Any, **options: Any) -> None:
        plan = plan_for("tiny", Platform.current())
        defaults = {
            "pool_size": plan.size,
            "max_overflow": plan.max_overflow,
            "timeout": plan.timeout_seconds,
            "recycle": int(with_jitter(plan.recycle_seconds)),
            "use_lifo": True,
        }
        super().__init__(creator, **{**defaults, **options})


class AsyncTinyPool(TinyPool, LimitedAsyncQueuePool):
    """`TinyPool` for async engines."""


class _Connecting:
    """The part of both dialects that runs before a first statement."""

    driver = NAME
    supports_statement_cache = True
    is_async: bool
    client_encoding: str | None
    _psycopg_adapters_map: Any

    def __init__(self, *, use_native_hstore: bool = False, **options: Any) -> None:
        # Asking the server whether it has the type would cost each process a round trip.
        super().__init__(use_native_hstore=use_native_hstore, **options)  # type: ignore[call-arg]  # a dialect's

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Validate each connection of the engine's pool when it is checked out, and limit their number."""
        if not isinstance(engine.dialect, cls):
            # SQLAlchemy tells the sync dialect of async engines, too.
            return
        pool: Any = engine.pool
        # Validation asks only after some idle seconds; pre-ping would ask before every use.
        pool._pre_ping = False  # noqa: SLF001  (it has no other name)
        limit(engine)
        recycle_seconds: float = pool._recycle  # noqa: SLF001
        validation.watch(engine, expires_seconds=recycle_seconds if recycle_seconds > 0 else math.inf)

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """The driver's arguments for `url`, with TLS wherever the host is not this machine."""
        parsed = DatabaseURL.parse(url.render_as_string(hide_password=False))
        arguments = connect_arguments(parsed.secured(None, ca_file()))
        if self.client_encoding is not None:
            arguments["client_encoding"] = self.client_encoding
        # The driver's types as options of the engine (json_serializer, native_inet_types) change them.
        return [], {**arguments, "context": self._psycopg_adapters_map}

    def on_connect(self) -> Callable[[Any], None]:
        """SQLAlchemy's preparation of a new connection, which must be one of the package's."""
        prepare: Callable[[Any], None] | None = super().on_connect()  # type: ignore[misc]

        def on_connect(dbapi_connection: Any) -> None:
            driver_connection = self.get_driver_connection(dbapi_connection)  # type: ignore[attr-defined]
            if not isinstance(driver_connection, FlightConnection | FlightAsyncConnection):
                dbapi_connection.close()
                raise TypeError(_FOREIGN.format(type(driver_connection).__module__))
            if prepare:
                prepare(dbapi_connection)

        return on_connect


class OnetripDialect(_Connecting, SingleFlightDialect):
    """For `create_engine`."""

    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[OnetripAsyncDialect]:  # noqa: ARG003  (SQLAlchemy's)
        """The same for `create_async_engine`."""
        return OnetripAsyncDialect

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:  # noqa: ARG003  (SQLAlchemy's)
        """A tiny pool where instances multiply, one of SQLAlchemy's size elsewhere."""
        return TinyPool if Platform.current().is_serverless else LimitedQueuePool

    def connect(self, *_: Any, **arguments: Any) -> Any:
        """Connect, again while the failure is transient and the deadline leaves time."""
        arguments = driver_arguments(arguments)
        with deadline(BUDGET_SECONDS):
            return retries.connecting(lambda: FlightConnection.connect(**arguments))


class OnetripAsyncDialect(_Connecting, SingleFlightAsyncDialect):
    """For `create_async_engine`."""

    supports_statement_cache = True

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:  # noqa: ARG003  (SQLAlchemy's)
        """A tiny pool where instances multiply, one of SQLAlchemy's size elsewhere."""
        return AsyncTinyPool if Platform.current().is_serverless else LimitedAsyncQueuePool

    def connect(self, *_: Any, **arguments: Any) -> Any:
        """Connect, again while the failure is transient and the deadline leaves time."""
        arguments.setdefault("async_creator_fn", _connect)
        return super().connect(**driver_arguments(arguments))


async def _connect(**arguments: Any) -> FlightAsyncConnection:
    with deadline(BUDGET_SECONDS):
        return await retries.async_connecting(lambda: FlightAsyncConnection.connect(**arguments))


# Installed by pip it is an entry point; here, where the package is a folder, this does the same.
registry.register(f"postgresql.{NAME}", __name__, OnetripDialect.__name__)
