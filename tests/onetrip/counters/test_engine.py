"""A process has one engine of each kind, made when it is needed, with the pool that was asked for."""

from __future__ import annotations

import logging
import socket
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, NullPool, Pool, QueuePool, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from lib.onetrip.deadlines import deadline
from lib.onetrip.pool import database as engines
from lib.onetrip.pool.database import Database
from lib.onetrip.pool.engines import migration_engine
from lib.onetrip.pool.sizing import PoolPlan, pool_plan
from lib.onetrip.session.session import reading, transaction
from lib.onetrip.settings.settings import Settings, load_settings
from lib.onetrip.sqlstate import Kind, classify
from tests.onetrip.sync_or_async import Units

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.onetrip.counters.conftest import Server
    from tests.onetrip.servers import Servers

CANARY = "s3cr3t-canary"
URL = f"postgresql://app:{CANARY}@127.0.0.1:1/app"
MANY = 20
RACES = 20
# A refused connection is tried again for that long.
PATIENCE_SECONDS = 1.0
PLATFORMS = {
    "server": {},
    "vercel": {"VERCEL": "1"},
    "lambda": {"AWS_LAMBDA_FUNCTION_NAME": "api"},
    "managed instances": {
        "AWS_LAMBDA_FUNCTION_NAME": "api",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
    },
}
BACKEND = text("SELECT pg_backend_pid()")
GONE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"

MakeSettings = Callable[..., Settings]


def both_engines(database: Database) -> list[Engine]:
    """The sync engine, and what the async one drives."""
    return [database.engine, database.async_engine.sync_engine]


# One, made late


def test_a_database_has_one_engine_of_each_kind() -> None:
    """All callers get the same object."""
    database = Database(load_settings(DATABASE_URL=URL))
    assert database.engine is database.engine
    assert database.async_engine is database.async_engine
    assert database.reading_engine is database.engine
    assert database.async_reading_engine is database.async_engine


@pytest.mark.parametrize("name", ["engine", "async_engine", "limiter"])
def test_threads_that_ask_at_once_get_the_same_one(name: str) -> None:
    """The first use may come from many threads together: two engines would be twice the connections."""
    for _ in range(RACES):
        database = Database(load_settings(DATABASE_URL=URL))
        assert len({id(made) for made in _at_once(partial(getattr, database, name))}) == 1


def test_threads_that_ask_at_once_get_the_same_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's database is one even if its first users come together."""
    monkeypatch.setenv("DATABASE_URL", URL)
    for _ in range(RACES):
        engines.reset()
        assert len({id(database) for database in _at_once(engines.database)}) == 1


def _at_once(ask: Callable[[], Any]) -> list[Any]:
    barrier = Barrier(MANY)

    def wait_and_ask(_: int) -> Any:
        barrier.wait()
        return ask()

    interval = sys.getswitchinterval()
    # The interpreter goes from thread to thread as often as it can.
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(MANY) as threads:
            return list(threads.map(wait_and_ask, range(MANY)))
    finally:
        sys.setswitchinterval(interval)


def test_nothing_connects_before_the_first_query() -> None:
    """Settings, database, engines and sessions are made without a word to the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"postgresql://app@127.0.0.1:{listener.getsockname()[1]}/app"
        database = Database(load_settings(DATABASE_URL=url))
        assert len(both_engines(database)) == 2
        with transaction(database), reading(database):
            pass
        database.close()
        with pytest.raises(BlockingIOError):
            listener.accept()


# The pool that was asked for


@pytest.mark.parametrize(
    ("platform", "variables", "kind", "plan"),
    [
        ("server", {}, QueuePool, PoolPlan(5, 5, 10, 1800)),
        ("vercel", {}, QueuePool, PoolPlan(2, 0, 10, 240)),
        ("lambda", {}, QueuePool, PoolPlan(2, 0, 10, 240)),
        ("managed instances", {}, QueuePool, PoolPlan(1, 0, 10, 240)),
        ("server", {"DATABASE_POOL": "tiny"}, QueuePool, PoolPlan(2, 0, 10, 240)),
        ("vercel", {"DATABASE_POOL": "server"}, QueuePool, PoolPlan(5, 5, 10, 1800)),
        ("vercel", {"DATABASE_POOL": "null"}, NullPool, PoolPlan(2, 0, 10, 240)),
        (
            "vercel",
            {
                "DATABASE_POOL_SIZE": "3",
                "DATABASE_MAX_OVERFLOW": "4",
                "DATABASE_POOL_TIMEOUT": "1.5",
                "DATABASE_POOL_RECYCLE": "60",
            },
            QueuePool,
            PoolPlan(3, 4, 1.5, 60),
        ),
    ],
)
def test_both_engines_have_the_pool_that_the_platform_or_the_settings_ask_for(
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    variables: dict[str, str],
    kind: type[Pool],
    plan: PoolPlan,
) -> None:
    """The table of presets is what the engines are made with, sync and async alike."""
    for name, value in PLATFORMS[platform].items():
        monkeypatch.setenv(name, value)
    settings = load_settings(DATABASE_URL=URL, **variables)
    database = Database(settings)
    assert pool_plan(settings) == plan
    assert database.capacity == plan.size + plan.max_overflow
    for engine in both_engines(database):
        pool: Any = engine.pool
        assert isinstance(pool, kind)
        if isinstance(pool, QueuePool):
            assert (pool.size(), pool.timeout()) == (plan.size, plan.timeout_seconds)
            assert pool._max_overflow == plan.max_overflow  # noqa: SLF001  (nothing else tells)
            assert 0.9 * plan.recycle_seconds <= pool._recycle <= plan.recycle_seconds  # noqa: SLF001  (nor this)


def test_instances_born_together_do_not_reconnect_together() -> None:
    """The age at which connections are replaced differs from process to process."""
    settings = load_settings(DATABASE_URL=URL)
    ages = {Database(settings).engine.pool._recycle for _ in range(MANY)}  # noqa: SLF001  (nothing else tells)
    assert len(ages) > 1


@pytest.mark.slow
def test_no_more_connections_than_the_pool_has(make_settings: MakeSettings) -> None:
    """A request without a free connection waits for the set time, and then gets the answer busy."""
    database = Database(make_settings(DATABASE_POOL="tiny", DATABASE_POOL_TIMEOUT="1"))
    with ExitStack() as held:
        for _ in range(database.capacity):
            held.enter_context(database.engine.connect())
        with pytest.raises(PoolTimeoutError) as busy:
            database.engine.connect()
    fault = classify(busy.value)
    assert fault is not None
    assert fault.kind is Kind.BUSY
    database.close()


def test_the_connection_used_last_is_used_next(make_settings: MakeSettings) -> None:
    """With little to do the others grow old and are dropped, instead of all being kept awake."""
    database = Database(make_settings(DATABASE_POOL="tiny"))
    first, second = database.engine.connect(), database.engine.connect()
    used = second.connection.driver_connection
    first.close()
    second.close()
    with database.engine.connect() as third:
        assert third.connection.driver_connection is used
    database.close()


def test_without_a_pool_no_connection_is_kept(
    make_settings: MakeSettings, server: Server, route: str
) -> None:
    """`DATABASE_POOL=null` closes each connection when the work is done."""
    database = Database(make_settings(DATABASE_POOL="null"))
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        backend = connection.execute(BACKEND).scalar_one()
    assert driver.closed
    if route == "direct":
        server.until(GONE, backend)
    database.close()


# The properties of a connection


def test_nothing_is_prepared(units: Units) -> None:
    """A prepared statement belongs to one server connection, and a pooler hands out another."""

    def work(connection: Connection) -> int:
        for number in range(MANY):
            connection.execute(text("SELECT :number + 1"), {"number": number})
        prepared: int = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
        return prepared

    assert units.connected(work) == 0


def test_the_same_query_on_many_connections_in_turn(database: Database) -> None:
    """Interleaved on several connections, behind a pooler or not, no statement is missed or met twice."""
    with ExitStack() as held:
        connections = [held.enter_context(database.engine.connect()) for _ in range(3)]
        for number in range(MANY):
            for connection in connections:
                query = text("SELECT :number + 1")
                assert connection.execute(query, {"number": number}).scalar_one() == number + 1
                connection.rollback()


def test_the_server_sees_who_asks(units: Units) -> None:
    """In the server's list of sessions this application goes by its name."""
    query = text("SELECT current_setting('application_name')")
    assert units.connected(lambda connection: connection.execute(query).scalar_one()) == "onetrip"


def test_the_urls_own_name_wins(
    make_settings: MakeSettings, database_name: str, servers: Servers, route: str
) -> None:
    """Two applications on one database can be told apart."""
    url = servers.url(route, database_name).render() + "?application_name=another"
    database = Database(make_settings(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url))
    with database.engine.connect() as connection:
        assert connection.execute(text("SHOW application_name")).scalar_one() == "another"
    database.close()


@pytest.mark.parametrize("single_flight", ["on", "off"])
def test_it_works_over_a_unix_socket(servers: Servers, single_flight: str) -> None:
    """A URL whose host is a folder, as `make dev` has it."""
    url = servers.postgres.url().render()
    database = Database(load_settings(DATABASE_URL=url, DATABASE_SINGLE_FLIGHT=single_flight))
    with transaction(database) as session:
        assert session.execute(text("SELECT inet_server_addr()")).scalar_one() is None
    database.close()


# Its end


def test_after_close_the_next_use_connects_anew(database: Database, server: Server, route: str) -> None:
    """Closing drops the idle connections and no more: the database is used on as before."""
    engine = database.engine
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        backend = connection.execute(BACKEND).scalar_one()
    database.close()
    assert driver.closed
    if route == "direct":
        server.until(GONE, backend)
    assert database.engine is engine
    with engine.connect() as connection:
        assert connection.connection.driver_connection is not driver
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_closing_what_was_never_used_does_nothing() -> None:
    """`close` makes no engine in order to close it."""
    database = Database(load_settings(DATABASE_URL=URL))
    database.close()
    assert "engine" not in vars(database)
    assert "async_engine" not in vars(database)


@pytest.mark.anyio
async def test_aclose_closes_async_connections(database: Database) -> None:
    """The async ones are closed properly, and the next use connects anew."""
    async with database.async_engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
    await database.aclose()
    assert driver.closed
    async with database.async_engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await database.aclose()


def test_reset_forgets_the_database_and_the_settings(
    monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings
) -> None:
    """After a reset the environment is read anew, and what was open is closed."""
    monkeypatch.setenv("DATABASE_URL", make_settings().application_url.render())
    before = engines.database()
    assert engines.database() is before
    with before.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
    monkeypatch.setenv("DATABASE_URL", URL)
    assert engines.database() is before
    engines.reset()
    assert driver.closed
    assert engines.database() is not before
    assert engines.database().url.password == CANARY


# Secrets


def test_no_text_form_shows_the_password() -> None:
    """Not the engine, its URL, its pool, the database or its settings."""
    settings = load_settings(DATABASE_URL=URL)
    database = Database(settings)
    shown: list[object] = [database, settings, database.url, migration_engine(settings.direct_url)]
    for engine in (database.engine, database.async_engine):
        shown += [
            engine,
            engine.url,
            engine.pool,
            engine.dialect,
            engine.url.render_as_string(hide_password=False),
        ]
    assert CANARY not in "".join(f"{item!r} {item!s}" for item in shown)


def test_a_failed_connection_does_not_show_the_password(caplog: pytest.LogCaptureFixture, way: str) -> None:
    """Neither in the error and what it wraps, nor in what is logged on the way."""
    caplog.set_level(logging.DEBUG)
    database = Database(load_settings(DATABASE_URL=URL, DATABASE_ECHO="true"))
    with (
        Units.opened(database, way) as units,
        pytest.raises(OperationalError) as failure,
        deadline(PATIENCE_SECONDS),
    ):
        units.connected(lambda connection: connection)
    assert CANARY not in "".join(traceback.format_exception(failure.value))
    assert CANARY not in caplog.text


def test_echo_shows_statements_and_no_password(
    caplog: pytest.LogCaptureFixture,
    make_settings: MakeSettings,
    servers: Servers,
    database_name: str,
    route: str,
) -> None:
    """`DATABASE_ECHO` logs what is asked, not who asks."""
    url = servers.url(route, database_name).render().replace("postgres@", f"postgres:{CANARY}@")
    settings = make_settings(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url, DATABASE_ECHO="true")
    caplog.set_level(logging.DEBUG)
    database = Database(settings)
    with database.engine.connect() as connection:
        connection.execute(text("SELECT 'what is asked'"))
    database.close()
    assert "what is asked" in caplog.text
    assert CANARY not in caplog.text
