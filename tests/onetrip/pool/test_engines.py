"""`create_engine`, `create_async_engine` and `postgresql+onetrip://` are SQLAlchemy's, option for option."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import Mock

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    URL,
    AsyncAdaptedQueuePool,
    Column,
    Engine,
    Integer,
    MetaData,
    NullPool,
    QueuePool,
    StaticPool,
    Table,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import HSTORE, JSONB
from sqlalchemy.engine import CreateEnginePlugin
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lib import onetrip
from lib.onetrip.observability.request_stats import RequestStats, collecting
from lib.onetrip.pool import engines
from lib.onetrip.pool.connect_args import driver_arguments
from tests.onetrip.fault_proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.onetrip.servers import Servers

NEON = (
    "postgres://ada:s3cret@ep-cool-name-123456-pooler.eu-central-1.aws.neon.tech/db"
    "?pgbouncer=true&connection_limit=1&schema=public&prepared_statement_cache_size=0&application_name=mine"
)
PLATFORMS = {
    "Vercel": {"VERCEL": "1"},
    "Lambda": {"AWS_LAMBDA_FUNCTION_NAME": "f"},
    "Lambda managed instances": {
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
    },
}
# Each option that SQLAlchemy documents, with a value that another default would not give.
TAKEN: dict[str, Any] = {
    "connect_args": {"application_name": "mine"},
    "echo": False,
    "echo_pool": False,
    "enable_from_linting": False,
    "execution_options": {"isolation_level": "SERIALIZABLE"},
    "future": True,
    "hide_parameters": True,
    "insertmanyvalues_page_size": 7,
    "isolation_level": "REPEATABLE READ",
    "json_deserializer": json.loads,
    "json_serializer": json.dumps,
    "label_length": 30,
    "logging_name": "engine",
    "max_identifier_length": 60,
    "max_overflow": 1,
    "paramstyle": "pyformat",
    "plugins": [],
    "pool_logging_name": "pool",
    "pool_pre_ping": True,
    "pool_recycle": 100,
    "pool_reset_on_return": "rollback",
    "pool_size": 3,
    "pool_timeout": 2,
    "pool_use_lifo": True,
    "poolclass": QueuePool,
    "query_cache_size": 100,
    "skip_autocommit_rollback": True,
    "use_insertmanyvalues": False,
}
REFUSED = {"creator", "async_creator", "module", "pool"}
# Documented as gone or without effect.
GONE = {"convert_unicode", "dialect", "empty_in_strategy", "implicit_returning", "strategy"}

Make = Callable[..., Engine]


@pytest.fixture
def address(servers: Servers, route: str) -> str:
    """A URL of the server by this test's route."""
    return servers.url(route).render(hide_password=False)


@pytest.fixture
def make() -> Iterator[Make]:
    """`create_engine`, and whatever else makes an engine if it is named by `by`; disposed afterwards."""
    made: list[Engine] = []

    def make(*arguments: Any, by: Callable[..., Engine] = onetrip.create_engine, **options: Any) -> Engine:
        made.append(by(*arguments, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def value(engine: Engine, query: str = "SELECT 1") -> Any:
    """The first column of the query's first row."""
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar()


def scheme(address: str) -> str:
    """The same URL for SQLAlchemy's own functions."""
    return address.replace("postgresql://", "postgresql+onetrip://")


def documented() -> set[str]:
    """The options in SQLAlchemy's own documentation of the two functions."""
    texts = (sqlalchemy.create_engine.__doc__, sqlalchemy_asyncio.create_async_engine.__doc__)
    return {name for each in texts for name in re.findall(r":param (\w+)[=:]", each or "")} - {"url"}


def test_every_documented_option_is_taken_or_refused() -> None:
    """Of the options that SQLAlchemy documents none is left to chance."""
    assert documented() - GONE == (TAKEN.keys() | REFUSED) & documented()
    assert documented() >= {"creator", "json_serializer", "poolclass", "isolation_level", "async_creator"}


@pytest.mark.parametrize("option", sorted(TAKEN))
def test_an_option_is_taken(make: Make, address: str, option: str) -> None:
    """With any one of the options the engine connects, asks and is told."""
    if option == "skip_autocommit_rollback" and option not in documented():
        pytest.skip("this SQLAlchemy is older than the option")
    assert value(make(address, **{option: TAKEN[option]})) == 1


@pytest.mark.parametrize("option", sorted(REFUSED))
def test_an_option_that_would_bring_other_connections_is_refused(option: str) -> None:
    """The error names the option and the way that does it; None counts as left out."""
    with pytest.raises(TypeError, match=rf"^{option}: is not supported, .*\. [A-Z].*\.$"):
        onetrip.create_engine("postgresql://localhost/db", **{option: object()})
    onetrip.create_engine("postgresql://localhost/db", **{option: None}).dispose()


def test_an_unknown_option_is_sqlalchemys_to_refuse() -> None:
    """A misspelt option is named."""
    with pytest.raises(TypeError, match="pool_sise"):
        onetrip.create_engine("postgresql://localhost/db", pool_sise=3)


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"])
def test_isolation_levels_hold(make: Make, address: str, level: str) -> None:
    """A level by `create_engine` is the server's, on each use of the connection."""
    engine = make(address, isolation_level=level)
    for _ in range(2):
        with engine.connect() as connection:
            asked = connection.execute(text("SELECT current_setting('transaction_isolation')")).scalar_one()
            assert connection.get_isolation_level() == level
            assert asked.upper() == ("READ COMMITTED" if level == "AUTOCOMMIT" else level)


def test_autocommit_stores_without_a_commit(make: Make, address: str) -> None:
    """With AUTOCOMMIT a statement is stored when it returns, as fixtures of test suites expect."""
    engine = make(address, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("DROP TABLE IF EXISTS stored"))
        connection.execute(text("CREATE TABLE stored (id int)"))
        connection.execute(text("INSERT INTO stored VALUES (1)"))
    assert value(engine, "SELECT count(*) FROM stored") == 1
    with engine.connect() as connection:
        connection.execute(text("DROP TABLE stored"))


@pytest.mark.parametrize("pool", [NullPool, StaticPool, QueuePool])
def test_pool_classes_are_taken(make: Make, address: str, pool: type) -> None:
    """The pool is the one that was named, and serves one use after the other."""
    engine = make(address, poolclass=pool)
    assert isinstance(engine.pool, pool)
    assert [value(engine) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("pool", [NullPool, StaticPool, AsyncAdaptedQueuePool])
def test_pool_classes_are_taken_by_async_engines(address: str, pool: type) -> None:
    """The same for async engines; SQLAlchemy refuses a pool of sync ones."""

    async def ask() -> list[Any]:
        engine = onetrip.create_async_engine(address, poolclass=pool)
        assert isinstance(engine.sync_engine.pool, pool)
        answers = [await async_value(engine) for _ in range(3)]
        await engine.dispose()
        return answers

    assert asyncio.run(ask()) == [1, 1, 1]
    with pytest.raises(ArgumentError, match="QueuePool"):
        onetrip.create_async_engine(address, poolclass=QueuePool)


async def async_value(engine: AsyncEngine, query: str = "SELECT 1") -> Any:
    """`value` of an async engine."""
    async with engine.connect() as connection:
        return (await connection.execute(text(query))).scalar()


def test_execution_options_make_an_engine_of_their_own(make: Make, address: str) -> None:
    """Options by `create_engine`, by the engine and by the connection add up; the engine's stay its own."""
    engine = make(address, execution_options={"isolation_level": "SERIALIZABLE"})
    reading = engine.execution_options(postgresql_readonly=True)
    names = "current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')"
    assert value(reading, f"SELECT {names}") == "serializable on"
    assert value(engine, f"SELECT {names}") == "serializable off"


def test_the_sessions_encoding_is_the_engines(make: Make, address: str) -> None:
    """`client_encoding` is what the server is told at the login; without it, UTF-8."""
    assert value(make(address, client_encoding="LATIN1"), "SHOW client_encoding") == "LATIN1"
    assert value(make(address), "SHOW client_encoding") == "UTF8"


def test_json_goes_through_the_applications_own_functions(make: Make, address: str) -> None:
    """`json_serializer` writes and `json_deserializer` reads."""
    engine = make(
        address, json_serializer=lambda _: '{"written": 1}', json_deserializer=lambda _: "read by its own"
    )
    with engine.connect() as connection:
        literal = sqlalchemy.literal({"a": 1}, JSONB)
        assert connection.execute(sqlalchemy.select(literal)).scalar() == "read by its own"
        assert connection.execute(sqlalchemy.select(literal["written"].astext)).scalar() == "1"


def test_listeners_prepare_connections(make: Make, address: str) -> None:
    """A connect listener's statements hold; a do_connect listener changes the arguments."""
    engine = make(address)

    @event.listens_for(engine, "do_connect")
    def named(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["application_name"] = "by a listener"

    @event.listens_for(engine, "connect")
    def prepared(dbapi_connection: Any, _record: Any) -> None:
        before, dbapi_connection.autocommit = dbapi_connection.autocommit, True
        with dbapi_connection.cursor() as cursor:
            cursor.execute("SET search_path TO pg_catalog")
        dbapi_connection.autocommit = before

    both = "SELECT current_setting('application_name') || ', ' || current_setting('search_path')"
    assert value(engine, both) == "by a listener, pg_catalog"
    with engine.begin() as connection:
        assert connection.execute(text("SHOW search_path")).scalar() == "pg_catalog"
        connection.execute(text("SET search_path TO DEFAULT"))


def test_a_connection_from_elsewhere_is_refused(make: Make, address: str) -> None:
    """A listener that opens the connection itself is told why that cannot be, and no connection is left."""
    engine = make(address)
    opened: list[psycopg.Connection[Any]] = []

    @event.listens_for(engine, "do_connect")
    def own(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> Any:
        opened.append(psycopg.connect(**parameters))
        return opened[-1]

    with pytest.raises(TypeError, match=r"do_connect listener .* return nothing\.$"):
        value(engine)
    assert [connection.closed for connection in opened] == [True]


def test_arguments_of_asyncpg_are_said_in_libpqs_words(make: Make, address: str) -> None:
    """`connect_args` written for asyncpg go on working, by the function and by the scheme."""
    given = {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,
        "timeout": 3.5,
        "server_settings": {"application_name": "kept"},
    }
    assert driver_arguments(given) == {"connect_timeout": 4, "application_name": "kept"}
    assert driver_arguments({"ssl": True, "host": "x"}) == {"sslmode": "require", "host": "x"}
    for engine in (
        make(address, connect_args=given),
        make(scheme(address), by=sqlalchemy.create_engine, connect_args=given),
    ):
        assert value(engine, "SHOW application_name") == "kept"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"command_timeout": 5}, "onetrip.deadline"),
        ({"server_settings": {"jit": "off"}}, "(?s)jit .*onetrip.SETTINGS"),
        ({"ssl": ssl.create_default_context()}, "sslmode=verify-full"),
        ({"autocommit": True}, 'isolation_level="AUTOCOMMIT"'),
        ({"sslmode": "disable", "host": "db.example.com"}, "sslmode=require"),
        ({"ssl": False, "host": "db.example.com"}, "sslmode=require"),
    ],
)
def test_arguments_that_cannot_be_kept_are_refused(given: dict[str, Any], remedy: str) -> None:
    """For options that libpq lacks, or that would send data in the clear, the error names the remedy."""
    with pytest.raises((TypeError, ValueError), match=remedy):
        onetrip.create_engine("postgresql://localhost/db", connect_args=given)


def test_no_environment_is_read(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variables and a `.env` of another program's, even nonsense, are nothing to an engine from a URL."""
    (tmp_path / ".env").write_text("DATABASE_URL=garbage\nENVIRONMENT=\0\n")
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "ENVIRONMENT", "DATABASE_POOL_SIZE", "DATABASE_MODE", "DB_SECRET_ARN"):
        monkeypatch.setenv(name, "garbage")
    assert value(make(address)) == 1
    database = onetrip.Database(address)
    assert value(database.engine) == 1
    database.close()


def test_a_neon_url_is_taken_as_it_is() -> None:
    """Parameters of other programs are left out, TLS is demanded, and the rest arrives."""
    engine = onetrip.create_engine(NEON)
    _, arguments = engine.dialect.create_connect_args(engine.url)
    assert not {"pgbouncer", "connection_limit", "schema"} & arguments.keys()
    assert arguments["host"].startswith("ep-cool-name-123456-pooler.")
    kept = (
        "user",
        "password",
        "dbname",
        "sslmode",
        "channel_binding",
        "application_name",
        "prepare_threshold",
    )
    assert [arguments[name] for name in kept] == ["ada", "s3cret", "db", "require", "require", "mine", None]


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://ada:p%40%2F%3A%3F%23%25+ss@localhost:6543/db?application_name=x",
        URL.create(
            "postgresql+asyncpg", "ada", "p@/:?#%+ss", "localhost", 6543, "db", {"application_name": "x"}
        ),
        URL.create(
            "postgresql+psycopg2", "ada", "p@/:?#%+ss", "localhost", 6543, "db", {"application_name": "x"}
        ),
        onetrip.DatabaseURL("ada", "p@/:?#%+ss", "localhost", 6543, "db", {"application_name": "x"}),
    ],
    ids=["text", "asyncpg's", "psycopg2's", "DatabaseURL"],
)
def test_a_url_goes_from_engine_to_engine(given: Any) -> None:
    """A URL of any form loses nothing, however often `engine.url` is passed on."""
    engine = onetrip.create_engine(given)
    for again in (onetrip.create_engine, sqlalchemy.create_engine, onetrip.create_engine):
        engine = again(engine.url)
        _, arguments = engine.dialect.create_connect_args(engine.url)
        named = ("user", "password", "host", "port", "dbname", "application_name")
        assert [arguments[name] for name in named] == ["ada", "p@/:?#%+ss", "localhost", 6543, "db", "x"]
    assert "p@" not in repr(engine.url)
    assert "p%40" not in f"{engine!r} {engine.url}"


@pytest.mark.parametrize("given", ["postgresql:///db?host=/run/postgresql", "postgresql://u:p@[::1]:5433/db"])
def test_sockets_and_addresses_go_from_engine_to_engine(given: str) -> None:
    """A unix socket's folder and an IPv6 address are what they were."""
    first = onetrip.create_engine(given)
    second = sqlalchemy.create_engine(first.url)
    arguments = [engine.dialect.create_connect_args(engine.url)[1] for engine in (first, second)]
    named = ("user", "password", "host", "port", "dbname")
    assert [arguments[0].get(name) for name in named] == [arguments[1].get(name) for name in named]
    assert arguments[0]["host"] in {"/run/postgresql", "::1"}


@pytest.mark.parametrize("given", [None, "", 5, "mysql://u:s3cret@h/d", "sqlite://", "localhost:5432/s3cret"])
def test_what_is_no_url_is_refused(given: Any) -> None:
    """The error says what to pass, and repeats no password."""
    for create in (onetrip.create_engine, onetrip.create_async_engine):
        with pytest.raises(onetrip.DatabaseURLError, match="postgresql://") as refusal:
            create(given)
        assert "s3cret" not in str(refusal.value)


class Noted(CreateEnginePlugin):
    """A plugin that notes the engines it is told of."""

    engines: ClassVar[list[Engine]] = []

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        """Take nothing of either."""

    def update_url(self, url: URL) -> URL:
        return url

    def engine_created(self, engine: Engine) -> None:
        self.engines.append(engine)


def test_plugins_are_loaded_by_option_and_by_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy's plugins learn of the engine, also if only the URL names them."""
    monkeypatch.setattr(Noted, "engines", [])
    sqlalchemy.dialects.plugins.register("noted", __name__, Noted.__name__)
    by_option = onetrip.create_engine("postgresql://localhost/db", plugins=["noted"])
    by_url = onetrip.create_engine("postgresql://localhost/db?plugin=noted")
    assert Noted.engines == [by_option, by_url]


def test_engines_come_from_configurations(make: Make, address: str) -> None:
    """`engine_from_config` makes of a configuration's texts what they mean."""
    configuration = {
        "sqlalchemy.url": scheme(address),
        "sqlalchemy.pool_size": "3",
        "sqlalchemy.pool_recycle": "300",
        "sqlalchemy.pool_pre_ping": "true",
        "sqlalchemy.echo": "false",
        "sqlalchemy.isolation_level": "SERIALIZABLE",
    }
    engine = make(configuration, by=sqlalchemy.engine_from_config)
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.size() == 3
    assert value(engine, "SHOW transaction_isolation") == "serializable"

    async def ask() -> Any:
        made = sqlalchemy_asyncio.async_engine_from_config(configuration)
        answer = await async_value(made, "SHOW transaction_isolation")
        await made.dispose()
        return answer

    assert asyncio.run(ask()) == "serializable"


def test_alembic_migrates_over_the_scheme(make: Make, address: str) -> None:
    """An env.py as Alembic writes it: engine_from_config with NullPool, one transaction, autogenerate."""
    engine = make({"sqlalchemy.url": scheme(address)}, by=sqlalchemy.engine_from_config, poolclass=NullPool)
    metadata = MetaData()
    Table("migrated", metadata, Column("id", Integer, primary_key=True))
    with engine.connect() as connection, connection.begin() as transaction:
        context = MigrationContext.configure(connection)
        Operations(context).create_table("migrated", Column("id", Integer, primary_key=True))
        changes = [change for change in compare_metadata(context, metadata) if "migrated" in str(change)]
        assert changes == []
        transaction.rollback()
    assert not sqlalchemy.inspect(engine).has_table("migrated")


def test_a_scoped_session_works_over_the_scheme(make: Make, address: str) -> None:
    """As Flask's extension does it: engine options of a mapping, one session a thread, removed at the end."""
    engine = make(scheme(address), by=sqlalchemy.create_engine, pool_pre_ping=True, pool_recycle=280)
    sessions = scoped_session(sessionmaker(bind=engine))

    def ask(number: int) -> int:
        try:
            found: int = sessions.execute(text("SELECT :n"), {"n": number}).scalar_one()
            return found
        finally:
            sessions.remove()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(40))) == list(range(40))
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a QueuePool


def test_a_stand_in_for_an_engine_serves_a_session(make: Make, address: str) -> None:
    """A unit test may give a Session a mock: nothing of ours takes it for an engine of its own."""
    make(address)
    engine = Mock()
    assert Session(engine).connection() is engine.connect()


def test_hstore_is_read_without_asking_for_the_type(make: Make, address: str) -> None:
    """Its values are dictionaries though the server was not asked whether it has the type."""
    dialect = make(address).dialect
    processor: Any = HSTORE().dialect_impl(dialect).result_processor(dialect, None)
    assert processor('"a"=>"1", "b"=>NULL') == {"a": "1", "b": None}


def test_a_first_query_costs_the_login_and_itself(servers: Servers) -> None:
    """Beyond psycopg's own login a first connection asks nothing; later queries are one round trip."""
    port = servers.postgres.port
    assert port is not None
    with Proxy(("127.0.0.1", port)).running() as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        with proxy.counting() as login:
            psycopg.connect(url).close()
        engine = onetrip.create_engine(url)
        with proxy.counting() as first, Session(engine) as session:
            session.execute(text("SELECT 1"))
            # The last message of the previous connection counts as one.
            assert first() <= login() + 1
        # On the wire a ROLLBACK that is not waited for may count with the statement behind it.
        with collecting(RequestStats()) as waited, Session(engine) as session:
            session.execute(text("SELECT 1"))
        assert waited.round_trips == 1
        engine.dispose()


def shape(engine: Engine | AsyncEngine) -> tuple[int, int, float, float]:
    """The size, overflow, timeout and recycling age of an engine's pool."""
    pool: Any = engine.pool
    return pool.size(), pool._max_overflow, pool._timeout, pool._recycle  # noqa: SLF001  (they have no other names)


@pytest.mark.parametrize("platform", sorted(PLATFORMS))
def test_the_pool_is_tiny_where_instances_multiply(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Two connections on Vercel and Lambda, one where a worker is forked for each request; options win."""
    url = "postgresql://localhost/db"
    for name, mark in PLATFORMS[platform].items():
        monkeypatch.setenv(name, mark)
    for create in (onetrip.create_engine, onetrip.create_async_engine):
        *most, recycle = shape(create(url))
        assert most == [1 if "managed" in platform else 2, 0, 10]
        assert 216 <= recycle <= 240
        given = create(url, pool_size=4, max_overflow=1, pool_timeout=3, pool_recycle=99)
        assert shape(given) == (4, 1, 3, 99)


def test_the_pool_is_sqlalchemys_own_elsewhere() -> None:
    """On a server the sizes are those of SQLAlchemy's documentation."""
    for create in (onetrip.create_engine, onetrip.create_async_engine):
        assert shape(create("postgresql://localhost/db")) == (5, 10, 30, -1)


def test_threads_share_an_engine_within_its_limit(make: Make, address: str) -> None:
    """Twelve threads on three connections: each is told its own answer, and the server sees three."""
    engine = make(address, pool_size=3, max_overflow=0, connect_args={"application_name": "shared"})

    def ask(number: int) -> int:
        with engine.begin() as connection:
            found: int = connection.execute(
                text("SELECT :n + 0 * pg_backend_pid()"), {"n": number}
            ).scalar_one()
            return found

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(ask, range(300))) == list(range(300))
    pool: Any = engine.pool
    assert (pool.checkedout(), pool.checkedin() <= 3) == (0, True)


def test_event_loops_share_an_engine_one_after_the_other(address: str) -> None:
    """As in scripts that run a loop for each piece of work, with more tasks than connections."""
    engine = onetrip.create_async_engine(address, pool_size=2, max_overflow=0)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(async_value(engine, f"SELECT {number}") for number in range(10)))

    for _ in range(3):
        assert asyncio.run(ask()) == list(range(10))
    asyncio.run(engine.dispose())


def test_the_wait_for_a_connection_ends(make: Make, address: str) -> None:
    """A thread that finds the pool used up waits as long as `pool_timeout` says, and is told why."""
    engine = make(address, pool_size=1, max_overflow=0, pool_timeout=0.2)
    with (
        engine.connect(),
        ThreadPoolExecutor(1) as other,
        pytest.raises(onetrip.PoolExhaustedError, match=r"0\.2 s"),
    ):
        other.submit(value, engine).result()
    assert value(engine) == 1


def test_the_engine_of_migrations_keeps_no_connection() -> None:
    """Alembic's engine is a plain one: on the direct URL, without a pool."""
    engine = engines.migration_engine(onetrip.DatabaseURL.parse("postgresql://localhost/db"))
    assert isinstance(engine.pool, NullPool)


def test_an_address_with_a_zone_makes_an_engine() -> None:
    """The zone of an IPv6 address survives SQLAlchemy's own form of the URL."""
    database = onetrip.Database("postgresql://u:p@[fe80::1%25eth0]:5432/d")
    assert str(database.engine.url) == "postgresql+onetrip://u@[fe80::1%25eth0]:5432/d"
    database.close()
