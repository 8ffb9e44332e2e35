"""A connection handed out is alive, and finding that out costs nothing while it is in use."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from lib.onetrip.connection.moment import Moment
from lib.onetrip.deadlines import deadline
from lib.onetrip.pool import validation as liveness
from lib.onetrip.settings.settings import environment_with
from tests.onetrip.environment import PROJECT
from tests.onetrip.network import PATIENCE_SECONDS, end_backends, message, transparent, until

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from lib.onetrip.url.database_url import DatabaseURL
    from tests.onetrip.conftest import Certificates
    from tests.onetrip.fault_proxy import Proxy
    from tests.onetrip.servers import Servers
    from tests.onetrip.sync_or_async import Units

# Each kind of fault is met sync and async, direct and pooled: 100 times in all.
ROUNDS = 25
# The check takes at most a second; an order of magnitude is for a busy machine.
BOUND_SECONDS = 10.0
SMALL_TALK = {
    "a notice": message(b"N", b"SNOTICE\0VNOTICE\0C00000\0Mgood evening\0\0"),
    "a parameter": message(b"S", b"IntervalStyle\0postgres\0"),
    "a notification": message(b"A", struct.pack("!i", 1) + b"channel\0payload\0"),
}
GOODBYE = message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")
FAULTS = ("backend ended", "FIN", "RST", "silence")


class Clocks:
    """The clocks that connections are judged by, to be set forward."""

    def __init__(self) -> None:
        self._read = Moment.now
        self._boot = self._wall = 0.0

    def pass_by(self, seconds: float, *, boot: bool = True, wall: bool = True) -> None:
        """Let time pass, or only one clock notice it."""
        self._boot += seconds * boot
        self._wall += seconds * wall

    def __call__(self) -> Moment:
        moment = self._read()
        return Moment(moment.since_boot + self._boot, moment.wall + self._wall)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Idleness without waiting for it."""
    clocks = Clocks()
    monkeypatch.setattr(Moment, "now", clocks)
    return clocks


@pytest.fixture
def pings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The result of each ping in this test."""
    answers, found = liveness._answers, []  # noqa: SLF001  (what is watched)

    def noted(*arguments: object) -> bool:
        found.append(answers(*arguments))  # type: ignore[arg-type]  # passed on
        return found[-1]

    monkeypatch.setattr(liveness, "_answers", noted)
    return found


@pytest.fixture
def proxy(servers: Servers, certificates: Certificates, route: str) -> Iterator[Proxy]:
    """A network that can speak in the server's name."""
    with transparent(servers, certificates, route) as proxy:
        yield proxy


@pytest.fixture
def fault(servers: Servers, database_name: str, proxy: Proxy, route: str) -> Callable[[str], None]:
    """Break every connection in the way named, and return once it is broken."""

    def served() -> bool:
        return any(server["database"] == database_name for server in servers.pooler.show("SERVERS"))

    def gone() -> bool:
        return proxy.open_connections == 0 if route == "direct" else not served()

    def break_all(kind: str) -> None:
        if kind == "backend ended":
            end_backends(servers, database_name)
            until(gone)
        else:
            {"FIN": proxy.hang_up, "RST": proxy.reset, "silence": proxy.forget}[kind]()

    return break_all


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS[:3])
def test_a_connection_that_ended_meanwhile_is_not_handed_out(
    units: Units, fault: Callable[[str], None], kind: str
) -> None:
    """After an idle connection ended, for any reason, the next use gets a live one and no error."""
    for _ in range(ROUNDS):
        assert _ask(units) == 1
        fault(kind)
    assert _ask(units) == 1


@pytest.mark.slow
def test_a_silent_peer_is_noticed_before_use(
    units: Units, proxy: Proxy, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was forgotten on the way, without a word, costs the next use a ping and no error."""
    monkeypatch.setattr(liveness, "PING_SECONDS", 0.02)
    for _ in range(ROUNDS):
        assert _ask(units) == 1
        proxy.forget()
        clocks.pass_by(liveness.PING_AFTER_SECONDS)
    assert _ask(units) == 1
    assert proxy.connections == ROUNDS + 1


@pytest.mark.slow
def test_a_goodbye_is_understood_before_the_connection_ends(
    units: Units, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FATAL message whose FIN never arrived is enough to doubt a connection that was used a moment ago."""
    monkeypatch.setattr(liveness, "PING_SECONDS", 0.02)
    for _ in range(ROUNDS):
        assert _ask(units) == 1
        proxy.say(GOODBYE)
        proxy.forget()
    assert _ask(units) == 1


@pytest.mark.slow
def test_a_check_takes_about_a_second_at_most(
    units: Units, proxy: Proxy, clocks: Clocks, pings: list[bool]
) -> None:
    """With a silent peer, a checkout soon has a connection."""
    _ask(units)
    proxy.forget()
    clocks.pass_by(liveness.PING_AFTER_SECONDS)
    begin = time.monotonic()
    assert _ask(units) == 1
    assert time.monotonic() - begin < BOUND_SECONDS
    assert pings == [False]


@pytest.mark.slow
def test_after_one_failed_ping_the_others_are_replaced_unasked(
    units: Units, proxy: Proxy, clocks: Clocks, pings: list[bool]
) -> None:
    """If one idle connection died, all did: the second checkout does not wait for a ping."""
    units.connected(_with_another)
    proxy.forget()
    clocks.pass_by(liveness.PING_AFTER_SECONDS)
    units.connected(_with_another)
    assert pings == [False]
    assert proxy.connections == 4


def test_uses_that_follow_closely_cost_no_ping(units: Units, proxy: Proxy) -> None:
    """No round trip more than the query's own: no ping is sent."""
    _ask(units)
    with proxy.counting() as flights:
        for _ in range(10):
            _ask(units)
    assert (flights(), proxy.connections) == (10 * _flights_of_a_read(units), 1)


def test_an_idle_connection_is_asked_once(units: Units, proxy: Proxy, clocks: Clocks) -> None:
    """After some idle seconds the next use asks first, the one after it no more."""
    _ask(units)
    clocks.pass_by(liveness.PING_AFTER_SECONDS)
    with proxy.counting() as flights:
        _ask(units)
        assert flights() == 1 + _flights_of_a_read(units)
        _ask(units)
    assert (flights(), proxy.connections) == (1 + 2 * _flights_of_a_read(units), 1)


def _flights_of_a_read(units: Units) -> int:
    """The plain driver sends BEGIN, settings, query and ROLLBACK each by itself."""
    return 1 if units.database.single_flight else 4


@pytest.mark.parametrize("clock", ["boot", "wall"])
def test_a_connection_idle_for_too_long_is_replaced_unasked(
    units: Units, proxy: Proxy, clocks: Clocks, pings: list[bool], clock: str
) -> None:
    """With any clock that went on during a freeze, no checkout waits for a connection that is surely dead."""
    for _ in range(ROUNDS):
        assert _ask(units) == 1
        proxy.forget()
        clocks.pass_by(100_000, boot=clock == "boot", wall=clock == "wall")
    assert _ask(units) == 1
    assert (pings, proxy.connections) == ([], ROUNDS + 1)


def test_a_connection_on_which_the_server_only_spoke_is_kept(units: Units, proxy: Proxy) -> None:
    """A notice is no end: the connection answers, so it stays."""
    _ask(units)
    for kind, said in SMALL_TALK.items():
        proxy.say(said)
        assert _ask(units) == 1
        assert proxy.connections == 1, kind


def test_many_open_files_do_not_make_a_connection_look_dead(units: Units, proxy: Proxy) -> None:
    """A process with more than 1,024 open files keeps its connections as any other does."""
    with _many_open_files():
        for _ in range(3):
            assert _ask(units) == 1
    assert proxy.connections == 1


@pytest.mark.slow
def test_a_thawed_process_answers_without_an_error(
    tls_url: DatabaseURL, route: str, way: str, fault: Callable[[str], None], tmp_path: Path
) -> None:
    """A process that was stopped while its connections died, in whatever way, goes on as if nothing was."""
    ping_after_seconds = 0.2
    with _sleeper(tls_url, route, way, ping_after_seconds, tmp_path) as (process, ask):
        assert ask() == "answered"
        for kind in FAULTS:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            fault(kind)
            # This is the freeze.
            time.sleep(2 * ping_after_seconds)
            process.send_signal(signal.SIGCONT)
            assert ask() == "answered", kind


def _ask(units: Units) -> int:
    with deadline(PATIENCE_SECONDS):
        answer: int = units.reading(lambda session: session.scalar(text("SELECT 1")))
    return answer


def _with_another(connection: Connection) -> None:
    """Use two connections at once."""
    with connection.engine.connect() as another:
        for each in (connection, another):
            each.execute(text("SELECT 1"))


@contextmanager
def _many_open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while stack.enter_context(open(os.devnull)).fileno() <= 1024:  # noqa: PTH123  (a file, not its text)
            pass
        yield


@contextmanager
def _sleeper(
    url: DatabaseURL, route: str, way: str, ping_after_seconds: float, folder: Path
) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """A process of its own that asks when it is told to; what it complained about must be nothing."""
    log = folder / "complaints"
    with (
        log.open("w") as complaints,
        subprocess.Popen(
            [sys.executable, "-m", "tests.onetrip.frozen_process", way, str(ping_after_seconds)],
            env=environment_with(DATABASE_URL=url.render(), DATABASE_MODE=route),
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def ask() -> str:
            print(file=asked, flush=True)
            return answers.readline().strip()

        try:
            yield process, ask
        finally:
            process.send_signal(signal.SIGCONT)
            asked.close()
            process.wait()
    assert log.read_text() == ""
