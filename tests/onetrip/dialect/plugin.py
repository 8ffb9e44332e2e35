"""Lets SQLAlchemy's test suite connect as our engines do: in autocommit, with our dialects."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql import provision  # noqa: F401  (how its databases are prepared)

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403  (hooks of pytest)

from lib.onetrip.connection.dialect import SingleFlightAsyncDialect, SingleFlightDialect  # noqa: E402  (after the rewrite)
from lib.onetrip.connection.single_flight import FlightAsyncConnection, FlightConnection  # noqa: E402

OPTIONS: Any = {"autocommit": True, "prepare_threshold": None}


class Dialect(SingleFlightDialect):
    """Ours, on our connections."""

    # The suite looks at a driver's cursors by its name.
    driver = "psycopg"
    supports_statement_cache = True

    def connect(self, *arguments: Any, **options: Any) -> Any:
        connect: Any = FlightConnection.connect
        return connect(*arguments, **options, **OPTIONS)


class AsyncDialect(SingleFlightAsyncDialect):
    """Ours, on our async connections."""

    driver = "psycopg"
    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> type[AsyncDialect]:  # noqa: ARG003  (SQLAlchemy's)
        return cls

    def connect(self, *arguments: Any, **options: Any) -> Any:
        connect = partial(FlightAsyncConnection.connect, **OPTIONS)
        return super().connect(*arguments, **options, async_creator_fn=connect)


registry.register("postgresql.single_flight", __name__, "Dialect")
registry.register("postgresql.single_flight_async", __name__, "AsyncDialect")
