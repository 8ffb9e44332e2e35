import pytest
from sqlalchemy import make_url
from sqlalchemy.dialects import plugins, registry
from sqlalchemy.engine import CreateEnginePlugin

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *  # noqa

from lib.dialect import SingleFlightAsyncDialect
from lib.connector import connector, async_connector
from lib.single_flight import FlightConnection, FlightAsyncConnection

registry.register("postgresql.single_flight", "lib.dialect", "SingleFlightDialect")
registry.register("postgresql.single_flight_async", "tests.dialect.plugin", "AsyncDialect")
plugins.register("flight", "tests.dialect.plugin", "FlightPlugin")

class AsyncDialect(SingleFlightAsyncDialect):
    supports_statement_cache = True
    @classmethod
    def get_async_dialect_cls(cls, url): return cls

class FlightPlugin(CreateEnginePlugin):
    def __init__(self, url, kwargs):
        args = dict(host=url.host, port=url.port, user=url.username, dbname=url.database, autocommit=True, prepare_threshold=None)
        if url.drivername.endswith("_async"):
            create = async_connector(FlightAsyncConnection, [args])
            kwargs.setdefault("creator", lambda: AsyncDialect.import_dbapi().connect(async_creator_fn=create))
        else:
            kwargs.setdefault("creator", connector(FlightConnection, [args]))
    def update_url(self, url):
        return url
