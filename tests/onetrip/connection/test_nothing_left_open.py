"""Whatever a connection was doing, what closes a process's connections leaves none of them open."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from lib.onetrip.connection import early
from lib.onetrip.connection.moment import Moment
from lib.onetrip.connection.source import source_for
from lib.onetrip.pool.database import Database
from lib.onetrip.pool.shutdown import close_before_snapshot
from lib.onetrip.process import process
from lib.onetrip.settings.settings import Settings
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import until
from tests.onetrip.sync_or_async import Units

ONE = text("SELECT 1")
MakeSettings = Callable[..., Settings]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that a request waits for, and so connects early."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    yield
    process.early_connection = None


def _ready() -> Any:
    connection = process.early_connection
    assert connection
    until(lambda: connection.pgconn is not None)
    return connection


def test_a_connection_that_is_out_while_the_others_are_closed_is_closed_when_it_comes_back(
    units: Units, proxy: Proxy
) -> None:
    """It serves on to the end of its unit; then nothing would close it any more but its own return."""

    def work(connection: Connection) -> None:
        assert connection.scalar(ONE) == 1
        units.database.close()
        assert proxy.open_connections == 1
        assert connection.scalar(ONE) == 1

    units.connected(work)
    until(lambda: proxy.open_connections == 0)
    assert units.connected(lambda connection: connection.scalar(ONE)) == 1


def test_a_connection_that_awaits_the_answer_to_its_rollback_is_closed(units: Units, proxy: Proxy) -> None:
    """The ROLLBACK of a read is under way while the pool is closed: the connection ends all the same."""
    proxy.latency_seconds = 0.05
    units.session(lambda session: session.scalar(ONE))
    units.database.close()
    until(lambda: proxy.open_connections == 0)


@pytest.mark.usefixtures("started")
def test_an_early_connection_that_nobody_takes_is_closed(
    proxied_settings: MakeSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does other work gives the server its connection back once that is no longer fresh."""
    monkeypatch.setattr(early, "FRESH_SECONDS", 0.3)
    settings = proxied_settings()
    early.start(settings)
    _ready()
    assert proxy.open_connections == 1
    until(lambda: proxy.open_connections == 0)
    assert early.take(source_for(settings)) is None


@pytest.mark.usefixtures("started")
def test_an_early_connection_is_closed_once_it_is_made_where_nobody_wants_it_any_more(
    proxied_settings: MakeSettings, proxy: Proxy
) -> None:
    """Closing while the handshake is under way leaves nothing, though the thread goes on for a moment."""
    proxy.latency_seconds = 0.05
    settings = proxied_settings()
    early.start(settings)
    until(lambda: proxy.connections == 1)
    early.close(source_for(settings))
    until(lambda: proxy.open_connections == 0)
    assert early.take(source_for(settings)) is None
    assert proxy.connections == 1


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("clock", ["since_boot", "wall"])
def test_an_early_connection_ages_by_either_clock(
    proxied_settings: MakeSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    """A frozen machine stops one of its clocks, and anyone may set the other back."""
    settings = proxied_settings()
    early.start(settings)
    _ready()
    then = Moment.now()
    jumps = {"since_boot": -3600.0, "wall": -3600.0, clock: early.FRESH_SECONDS + 1}
    later = Moment(then.since_boot + jumps["since_boot"], then.wall + jumps["wall"])
    monkeypatch.setattr(Moment, "now", lambda: later)
    assert early.take(source_for(settings)) is None
    until(lambda: proxy.open_connections == 0)


@pytest.mark.usefixtures("started")
def test_a_snapshot_holds_no_socket(
    proxied_settings: MakeSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two instances are restored from one snapshot: what one of them held open, the other would speak on."""
    hooks = ModuleType("snapshot_restore_py")
    before: list[Callable[[], None]] = []
    hooks.register_before_snapshot = before.append  # type: ignore[attr-defined]  # as AWS's module has it
    hooks.register_after_restore = lambda hook: None  # type: ignore[attr-defined]  # noqa: ARG005
    monkeypatch.setitem(sys.modules, hooks.__name__, hooks)
    settings = proxied_settings()
    early.start(settings)
    database = Database(settings)
    close_before_snapshot(database)
    # Not the early one: it still waits to be taken, while another is idle and one awaits an answer.
    other = Database(proxied_settings(DATABASE_TLS="require"))
    close_before_snapshot(other)
    _ready()
    proxy.latency_seconds = 0.02
    with Session(other.engine) as session:
        session.scalar(ONE)
    assert proxy.open_connections == 2
    for hook in before:
        hook()
    until(lambda: proxy.open_connections == 0)
    with database.engine.connect() as connection:
        assert connection.scalar(ONE) == 1
    database.close()


def test_the_wall_clock_does_not_move_deadlines(units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that the wall clock jumps in a unit, either way, ends nothing and prolongs nothing."""
    now = time.time

    def work(session: Session) -> list[Any]:
        found = [session.scalar(ONE)]
        for jump in (3600, -3600):
            monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
            found.append(session.scalar(ONE))
        return found

    assert units.transaction(work) == [1, 1, 1]
    assert units.transaction(work) == [1, 1, 1]
