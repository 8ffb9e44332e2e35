"""Idle connections are gone before the platform freezes or ends the process, where it tells."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType

import anyio
import psycopg
import pytest
from sqlalchemy import text

from lib.onetrip.pool import shutdown as lifecycle
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading
from lib.onetrip.settings.settings import Settings, environment_with
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.environment import PROJECT, needs_fastapi
from tests.onetrip.servers import Servers

# Serves one query, says so, and waits for the signal as AWS's runtime client does, while a thread asks
# for the next event; what it prints after that would be a failure.
PROGRAM = """
import os, signal, sys, threading, time
from sqlalchemy import text
from tests.onetrip import entrypoint
from lib.onetrip.pool.database import database
from lib.onetrip.session.session import reading
with reading() as session:
    session.scalar(text("SELECT 1"))
def poll():
    time.sleep(10)
    print("still here", flush=True)
    os._exit(1)
polling = threading.Thread(target=poll)
polling.start()
# The system hands a signal to any of the threads, after a freeze rarely to the main one.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM} if sys.argv[1] else ())
print(database().engine.pool.checkedin(), flush=True)
polling.join()
"""


@needs_fastapi
@pytest.mark.parametrize("deaf", ["", "main thread"])
def test_sigterm_closes_what_lambda_would_tear_down(servers: Servers, database_name: str, deaf: str) -> None:
    """The process leaves at once with code 0, and the server has no session of it left."""
    url = servers.url("direct", database_name)
    environment = environment_with(DATABASE_URL=url.render(), AWS_LAMBDA_FUNCTION_NAME="api")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, deaf], env=environment, cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert _sessions(servers, url) == 1
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
        assert process.wait() == 0
    # The server notices a moment after the process is gone.
    assert any(_sessions(servers, url) == 0 for _ in range(200))


def test_a_snapshot_holds_no_connection_and_no_random_state(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the snapshot the pool is emptied; after it, two restored instances differ."""
    hooks = _fake_module(monkeypatch, "snapshot_restore_py")
    before: list[Callable[[], None]] = []
    after: list[Callable[[], None]] = []
    hooks.register_before_snapshot = before.append  # type: ignore[attr-defined]  # as AWS's module has it
    hooks.register_after_restore = after.append  # type: ignore[attr-defined]  # as AWS's module has it
    lifecycle.close_before_snapshot(database)
    with reading(database) as session:
        session.scalar(text("SELECT 1"))
    state = random.getstate()
    for hook in before + after:
        hook()
    assert database.engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # a QueuePool
    assert random.getstate() != state


@pytest.mark.anyio
async def test_an_idle_instance_on_vercel_gives_its_connections_back(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instance is kept awake once, until no request came for a while; then nothing is open."""
    monkeypatch.setenv("VERCEL", "1")
    monkeypatch.setattr(lifecycle, "IDLE_SECONDS", 0.05)
    kept_awake: list[Awaitable[None]] = []
    _fake_module(monkeypatch, "vercel")
    sdk = _fake_module(monkeypatch, "vercel.functions")
    sdk.wait_until = kept_awake.append  # type: ignore[attr-defined]  # as Vercel's module has it
    database = Database(make_settings())
    served = lifecycle.closing_when_idle(database)
    await anyio.to_thread.run_sync(_read, database)
    for _ in range(3):
        served()
    assert len(kept_awake) == 1
    await kept_awake[0]
    assert database.engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # a QueuePool
    served()
    assert len(kept_awake) == 2
    await kept_awake[1]


def test_without_vercels_package_nothing_is_kept_awake(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optional package is found or not; an application without it runs all the same."""
    monkeypatch.setenv("VERCEL", "1")
    lifecycle.closing_when_idle(Database(make_settings()))()


def _read(database: Database) -> None:
    with reading(database) as session:
        session.scalar(text("SELECT 1"))


def _fake_module(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def _sessions(servers: Servers, url: DatabaseURL) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = 'onetrip'"
    with psycopg.connect(**servers.url("direct").connect_arguments()) as connection:  # type: ignore[arg-type]
        row = connection.execute(query, [url.database]).fetchone()
    assert row is not None
    count: int = row[0]
    return count
