"""An instance connects while it imports, and starts just as well if it can't."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from lib import early_connection
from lib.engine import Database
from lib.session import async_reading, reading
from lib.settings import Settings
from tests.conftest import free_port
from tests.faults import Proxy

MakeSettings = Callable[..., Settings]
ONE = text("SELECT 1")


@pytest.fixture(autouse=True)
def _on_lambda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    yield
    early_connection._early = None  # noqa: SLF001  (one for each process)


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
    """What the thread opened is a socket, which serves either kind of connection."""
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
    """The failure reaches nobody, and once the database is there a request connects by itself."""
    closed = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    settings = make_settings(DATABASE_URL=closed, DATABASE_URL_UNPOOLED=closed)
    early_connection.start(settings)
    _wait()
    assert early_connection.take(settings.url_source) is None
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


def test_a_server_at_home_connects_when_it_is_asked_to(
    proxied_settings: MakeSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where instances do not start on demand, importing opens nothing."""
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME")
    early_connection.start(proxied_settings())
    assert early_connection._early is None  # noqa: SLF001  (nothing was begun)
    assert proxy.connections == 0


def _wait() -> None:
    early = early_connection._early  # noqa: SLF001  (nothing else knows)
    assert early is not None
    early._thread.join()  # noqa: SLF001
