"""Lets SQLAlchemy's test suite connect as our engines do, with our dialects."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql import provision  # noqa: F401  (how its databases are prepared)

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403  (hooks of pytest)

from lib.onetrip.pool.dialect import OnetripAsyncDialect, OnetripDialect  # noqa: E402  (after the rewrite)


class Dialect(OnetripDialect):
    """Ours, under the driver's name."""

    # The suite looks at a driver's cursors by its name.
    driver = "psycopg"
    supports_statement_cache = True


class AsyncDialect(OnetripAsyncDialect):
    """The same for async engines."""

    driver = "psycopg"
    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> type[AsyncDialect]:  # noqa: ARG003  (SQLAlchemy's)
        return cls

    def create_connect_args(self, url: Any) -> tuple[list[Any], dict[str, Any]]:
        # The name of the async variant is the suite's, not a user's.
        return super().create_connect_args(url.set(drivername="postgresql+onetrip"))


registry.register("postgresql.onetrip", __name__, "Dialect")
registry.register("postgresql.onetrip_async", __name__, "AsyncDialect")
