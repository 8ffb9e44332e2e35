"""An instance connects while it imports, and starts just as well if it can't."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import AliasChoices
from sqlalchemy import text

from lib.onetrip.connection import early as early_connection
from lib.onetrip.connection.conninfo import connection_parameters, conninfo
from lib.onetrip.connection.early_url import NAMES, UNPOOLED_NAMES, likely_url
from lib.onetrip.connection.source import source_for
from lib.onetrip.pool.database import Database
from lib.onetrip.process import process
from lib.onetrip.session.session import async_reading, reading
from lib.onetrip.settings.settings import Settings, load_settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip.environment import clean_environment
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import until
from tests.onetrip.servers import Servers

MakeSettings = Callable[..., Settings]
ONE = text("SELECT 1")


@pytest.fixture(autouse=True)
def _on_lambda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    yield
    process.early_connection = None


@pytest.mark.usefixtures("in_flight")
def test_the_first_query_uses_the_connection_that_was_opened_meanwhile(
    proxied_settings: MakeSettings, proxy: Proxy
) -> None:
    """One connection is made in all, and what is sent on it after the import is the query alone."""
    settings = proxied_settings()
    early_connection.start(settings)
    _wait()
    database = Database(settings)
    with proxy.counting() as flights, reading(database) as session:
        assert session.scalar(ONE) == 1
        assert flights() == 1
    assert proxy.connections == 1
    database.close()


@pytest.mark.anyio
async def test_an_async_engine_takes_it_too(proxied_settings: MakeSettings, proxy: Proxy) -> None:
    """The thread opens a socket, which serves sync and async connections alike."""
    settings = proxied_settings()
    early_connection.start(settings)
    database = Database(settings)
    async with async_reading(database) as session:
        assert await session.scalar(ONE) == 1
    assert proxy.connections == 1
    await database.aclose()


def test_a_request_that_comes_first_waits_for_it(proxied_settings: MakeSettings, proxy: Proxy) -> None:
    """While the handshake is under way no second one is begun."""
    proxy.latency_seconds = 0.05
    settings = proxied_settings()
    early_connection.start(settings)
    database = Database(settings)
    with reading(database) as session:
        assert session.scalar(ONE) == 1
    assert proxy.connections == 1
    database.close()


@pytest.mark.usefixtures("route")
def test_an_instance_starts_while_its_database_is_down(make_settings: MakeSettings) -> None:
    """The failure reaches no client, and once the database is there a request connects by itself."""
    closed = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    settings = make_settings(DATABASE_URL=closed, DATABASE_URL_UNPOOLED=closed)
    early_connection.start(settings)
    _wait()
    assert early_connection.take(source_for(settings)) is None
    database = Database(make_settings())
    with reading(database) as session:
        assert session.scalar(ONE) == 1
    database.close()


def test_one_that_grew_old_is_not_handed_out(
    proxied_settings: MakeSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance that was frozen since it started connects anew rather than trust the old socket."""
    settings = proxied_settings()
    early_connection.start(settings)
    _wait()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + early_connection.FRESH_SECONDS + 1)
    database = Database(settings)
    with reading(database) as session:
        assert session.scalar(ONE) == 1
    assert proxy.connections == 2
    database.close()


def test_one_that_was_hung_up_on_is_not_handed_out(proxied_settings: MakeSettings, proxy: Proxy) -> None:
    """A server that ended it between the import and the first request costs no failed try."""
    settings = proxied_settings()
    early_connection.start(settings)
    _wait()
    proxy.hang_up()
    assert early_connection.take(source_for(settings)) is None
    database = Database(settings)
    with reading(database) as session:
        assert session.scalar(ONE) == 1
    assert proxy.connections == 2
    database.close()


def test_a_server_at_home_connects_when_it_is_asked_to(
    proxied_settings: MakeSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import opens nothing on platforms that do not start instances on demand."""
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME")
    early_connection.start(proxied_settings())
    assert process.early_connection is None
    assert proxy.connections == 0


LIKELY = {
    "pooled": {"DATABASE_URL": "postgres://u:p%40@ep-a-1-pooler.eu-central-1.aws.neon.tech/d"},
    "derived from the direct one": {"DATABASE_URL": "postgresql://u:p@ep-a-1.eu-central-1.aws.neon.tech/d"},
    "only the direct one": {"NEON_DATABASE_URL": "postgresql://u:p@ep-a-1.eu-central-1.aws.neon.tech/d"},
    "by Vercel's older name": {"POSTGRES_URL": "postgresql://u:p@db.example.com/d?sslmode=require"},
    "an empty first name": {"DATABASE_URL": "", "DB_URL": "postgresql://u:p@db.example.com/d"},
    "direct": {
        "DATABASE_MODE": "direct",
        "DATABASE_URL": "postgresql://u:p@ep-a-1-pooler.eu-central-1.aws.neon.tech/d",
    },
    "both, direct": {
        "DATABASE_MODE": "direct",
        "DATABASE_URL": "postgresql://u:p@pooler.example.com/d",
        "DATABASE_URL_UNPOOLED": "postgresql://u:p@db.example.com/d",
    },
    "verified": {"DATABASE_TLS": "verify-full", "DATABASE_URL": "postgresql://u:p@db.example.com/d"},
    "on this machine": {"DATABASE_URL": "postgresql://u@127.0.0.1:5432/d"},
}


@pytest.mark.parametrize("variables", LIKELY.values(), ids=LIKELY)
def test_the_likely_url_is_the_settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is begun before the settings exist uses their URL."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert likely_url() == load_settings().application_url


def test_the_likely_url_goes_by_the_settings_names() -> None:
    """A name that is added to the settings is not forgotten here."""
    for field, names in {"database_url": NAMES, "database_url_unpooled": UNPOOLED_NAMES}.items():
        alias = Settings.model_fields[field].validation_alias
        assert isinstance(alias, AliasChoices)
        assert tuple(alias.choices) == names


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"DATABASE_URL": "mysql://u:p@db.example.com/d"},
        {"DATABASE_URL": "postgresql://u:p@db.example.com/d?sslmode=disable"},
        {"DATABASE_URL": "postgresql://u:p@db.example.com/d", "DATABASE_TLS": "often"},
        {"DATABASE_URL": "postgresql://u@127.0.0.1/d", "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"},
    ],
)
def test_without_a_usable_url_nothing_is_begun(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of the environment are left for the settings to report."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    early_connection.start_likely()
    assert process.early_connection is None


@pytest.mark.slow
def test_a_connection_begun_to_another_url_is_dropped(
    proxied_settings: MakeSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    """If the guess was wrong, the settings' connection is begun instead, and the other one closed."""
    guess = dataclasses.replace(servers.url("direct"), parameters={"application_name": "guessed"})
    monkeypatch.setenv("DATABASE_URL", guess.render())
    early_connection.start_likely()
    _wait()
    guessed = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'guessed'"
    assert servers.administer(guessed) == [(1,)]
    settings = proxied_settings()
    early_connection.start(settings)
    database = Database(settings)
    with reading(database) as session:
        assert session.scalar(ONE) == 1
    assert proxy.connections == 1
    until(lambda: servers.administer(guessed) == [(0,)])
    database.close()


def test_what_libpq_is_told_may_hold_any_character(servers: Servers) -> None:
    """Quotes, backslashes and spaces reach the server as they are."""
    url = servers.url("direct")
    odd = dataclasses.replace(url, parameters={"application_name": r"it's a \ 'name' = x"})
    with psycopg.connect(conninfo(connection_parameters(odd))) as connection:
        assert connection.execute(b"SHOW application_name").fetchone() == (
            odd.parameters["application_name"],
        )


MIDWAY = """
import sys
from lib.onetrip.connection import early
from lib.onetrip.process import process
early.start_likely()
import psycopg
assert psycopg.pq is process.early_connection._pq
with psycopg.connect(sys.argv[1]) as connection:
    assert connection.execute("SELECT 1").fetchone() == (1,)
print(process.early_connection.take().transaction_status)
"""


def test_psycopg_is_whole_though_it_was_interrupted(servers: Servers, tmp_path: Path) -> None:
    """The connection is begun in the midst of importing psycopg, which is then imported to its end."""
    url = servers.url("direct").render()
    variables = {"DATABASE_URL": url, "DATABASE_MODE": "direct", "AWS_LAMBDA_FUNCTION_NAME": "api"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MIDWAY, url],
        cwd=tmp_path,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def _wait() -> None:
    early = process.early_connection
    assert early is not None
    early._ready.wait()  # noqa: SLF001
