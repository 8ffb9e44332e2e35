"""Transient failures are retried unseen; permanent ones, and those that may have succeeded, are not."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier, Thread, Timer
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from lib.onetrip import retries
from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_transaction, transaction
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from lib.onetrip.testing.postgres import LocalPostgres
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.fault_routes import Trial, trial
from tests.onetrip.network import PATIENCE_SECONDS, sqlstate, transparent, until
from tests.onetrip.sync_or_async import Units

if TYPE_CHECKING:
    from sqlalchemy import TextClause
    from sqlalchemy.orm import Session

    from lib.onetrip.settings.settings import Settings
    from tests.onetrip.conftest import Certificates
    from tests.onetrip.servers import Servers

# Sync and async, direct and pooled: 100 in all.
ROUNDS = 25
ADD_AUTHOR = text("INSERT INTO authors (name, email) VALUES (gen_random_uuid(), gen_random_uuid())")
DIE = text("SELECT pg_terminate_backend(pg_backend_pid())")
CONFLICT = text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
SLOW_CONFLICT = text("DO $$ BEGIN PERFORM pg_sleep(0.5); RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
WAKE_UP_SECONDS = 1.0


@pytest.fixture
def proxy(servers: Servers, certificates: Certificates, route: str) -> Iterator[Proxy]:
    """A network that can tell a COMMIT from anything else."""
    with transparent(servers, certificates, route) as proxy:
        yield proxy


@pytest.fixture
def tried(proxied_settings: Callable[..., Settings]) -> Iterator[Trial]:
    """The application, with patience."""
    settings = proxied_settings(REQUEST_TIMEOUT_SECONDS=PATIENCE_SECONDS, DATABASE_POOL="tiny")
    with trial(settings) as tried:
        yield tried


@pytest.fixture
def role(servers: Servers) -> Iterator[str]:
    """A role of this test's own, which the pooler knows too."""
    name = f"role_{uuid4().hex}"
    logins = servers.pooler.folder / "users.txt"
    before = logins.read_text()
    servers.administer(f"CREATE ROLE {name} LOGIN PASSWORD 'right'")
    logins.write_text(f'{before}"{name}" ""\n')
    servers.pooler.command("RELOAD")
    yield name
    logins.write_text(before)
    servers.pooler.command("RELOAD")
    servers.administer(f"DROP ROLE {name}")


@pytest.fixture
def stranger(servers: Servers, role: str) -> Iterator[str]:
    """A role whose password the server, unlike for others, checks."""
    arguments = servers.url("direct").connect_arguments()
    with psycopg.connect(**arguments) as connection:  # type: ignore[arg-type]
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
    rules = Path(row[0])
    before = rules.read_text()

    def is_checked() -> bool:
        try:
            psycopg.connect(**{**arguments, "user": role, "password": "wrong"}).close()  # type: ignore[arg-type]
        except psycopg.OperationalError:
            return True
        return False

    rules.write_text(f"host all {role} all scram-sha-256\n{before}")
    servers.administer("SELECT pg_reload_conf()")
    until(is_checked)
    yield role
    rules.write_text(before)
    servers.administer("SELECT pg_reload_conf()")


@dataclass(frozen=True)
class Starting:
    """A PostgreSQL that is starting, and does so until it may go on; a proxy counts who knocks."""

    proxy: Proxy
    flag: Path

    @property
    def url(self) -> DatabaseURL:
        """The address at which it will answer."""
        return DatabaseURL("postgres", None, "127.0.0.1", self.proxy.port, "postgres")

    def says(self) -> str:
        """The bytes that it sends to each client."""
        try:
            psycopg.connect(**self.url.connect_arguments()).close()  # type: ignore[arg-type]
        except psycopg.OperationalError as error:
            return str(error)
        return ""


@pytest.fixture
def starting() -> Iterator[Starting]:
    """A server that recovers, as after a crash, and waits for a file while it does."""
    folder = Path(tempfile.mkdtemp(prefix="fastapi-on-neon-starting-"))
    folder.chmod(0o755)
    flag, port = folder / "go-on", free_port()
    fresh = LocalPostgres(folder / "postgres", port, {"fsync": "off"})
    fresh.start()
    with psycopg.connect(**fresh.url().connect_arguments()) as connection:  # type: ignore[arg-type]
        row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
    fresh.stop()
    owner = Path(row[0]).stat()
    signal = Path(row[0]) / "recovery.signal"
    signal.touch()
    os.chown(signal, owner.st_uid, owner.st_gid)
    waits = f"while [ ! -e {flag} ]; do sleep 0.05; done; false"
    server = LocalPostgres(folder / "postgres", port, {"fsync": "off", "restore_command": waits})
    starter = Thread(target=server.start)
    starter.start()
    with Proxy(("127.0.0.1", port)).running() as proxy:
        yield Starting(proxy, flag)
    flag.touch()
    starter.join()
    server.stop()
    shutil.rmtree(folder)


def _accept_and_hold(proxy: Proxy) -> None:
    """Accept connections and say nothing at first."""
    proxy.mode = "hole"
    Timer(WAKE_UP_SECONDS, setattr, (proxy, "mode", "pass")).start()


def _hang_up_on_accept(proxy: Proxy) -> None:
    """Accept connections and close them at once, at first."""
    proxy.mode = "refuse"
    Timer(WAKE_UP_SECONDS, setattr, (proxy, "mode", "pass")).start()


def _refuse(proxy: Proxy) -> None:
    """Keep the port closed at first."""
    down = proxy.down()
    down.__enter__()
    Timer(WAKE_UP_SECONDS, down.__exit__, (None, None, None)).start()


def _end_in_start_up(end: str) -> Callable[[Proxy], None]:
    def hold(proxy: Proxy) -> None:
        proxy.mode = "hole"

        def go_on() -> None:
            proxy.mode = "pass"
            getattr(proxy, end)()

        Timer(WAKE_UP_SECONDS, go_on).start()

    return hold


WAKE_UPS = {
    "accepted and held": _accept_and_hold,
    "refused": _refuse,
    "closed at once": _hang_up_on_accept,
    "FIN in start-up": _end_in_start_up("hang_up"),
    "RST in start-up": _end_in_start_up("reset"),
}


@pytest.mark.slow
@pytest.mark.parametrize("sleeping", WAKE_UPS.values(), ids=WAKE_UPS)
def test_a_compute_that_wakes_up_is_waited_for(
    tried: Trial, proxy: Proxy, sleeping: Callable[[Proxy], None]
) -> None:
    """The request is served after any transient failure of connecting in the first second."""
    sleeping(proxy)
    answers = tried.crowd(_read, 4)
    assert [answer.status for answer in answers] == [200] * 4, [answer.response.text for answer in answers]


@pytest.mark.slow
def test_a_server_that_is_starting_is_waited_for(starting: Starting, way: str) -> None:
    """A real PostgreSQL that says "starting up" (57P03) until it is done: the request is served."""
    settings = load_settings(DATABASE_URL=starting.url.render(), REQUEST_TIMEOUT_SECONDS=PATIENCE_SECONDS)
    until(lambda: "starting up" in starting.says())
    with trial(settings) as tried, ThreadPoolExecutor() as clients:
        before = starting.proxy.connections
        answer = clients.submit(tried.ask, _read, way)
        until(lambda: starting.proxy.connections >= before + 3)
        starting.flag.touch()
        assert answer.result().status == 200, answer.result().response.text


@pytest.mark.slow
@pytest.mark.parametrize("route", ["direct"], indirect=True)
def test_too_many_connections_are_waited_out(
    servers: Servers, tls_url: DatabaseURL, proxy: Proxy, role: str, way: str
) -> None:
    """A server that has no connection left has one again when others have ended."""
    servers.administer(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    url = replace(tls_url, user=role)
    with _units(url, way) as units, ExitStack() as others:
        other = others.enter_context(psycopg.connect(**url.connect_arguments()))  # type: ignore[arg-type]
        Timer(WAKE_UP_SECONDS, other.close).start()
        with deadline(PATIENCE_SECONDS):
            assert units.reading(_read) == 1
    assert proxy.connections > 2


def test_a_wrong_password_fails_at_once(tls_url: DatabaseURL, proxy: Proxy, stranger: str, way: str) -> None:
    """A permanent refusal is not retried: many wrong logins lock an account."""
    url = replace(tls_url, user=stranger, password="wrong")
    with _units(url, way) as units, pytest.raises(DBAPIError, match="password authentication failed"):
        units.reading(_read)
    assert proxy.connections == 1


def test_an_unknown_database_fails_at_once(tls_url: DatabaseURL, proxy: Proxy, way: str) -> None:
    """Even one whose name sounds as if it would come up by itself."""
    # The pooler remembers for some seconds what failed.
    url = replace(tls_url, database=f"timeout: try again {uuid4().hex}")
    with _units(url, way) as units, pytest.raises(DBAPIError, match="does not exist"):
        units.reading(_read)
    assert proxy.connections == 1


def test_a_wrong_password_at_one_of_two_addresses_fails_at_once(
    tls_url: DatabaseURL, proxy: Proxy, stranger: str
) -> None:
    """A name with two addresses, one of which refuses: what the other said of the password counts."""
    arguments = replace(tls_url, user=stranger, password="wrong").connect_arguments()
    arguments |= {"host": "127.0.0.1,127.0.0.1", "port": f"{proxy.port},{free_port()}"}
    with pytest.raises(psycopg.OperationalError, match="refused"), deadline(PATIENCE_SECONDS):
        retries.connecting(lambda: psycopg.connect(**arguments))  # type: ignore[arg-type]
    assert proxy.connections == 1


@pytest.mark.slow
def test_two_writers_who_conflict_both_succeed(tried: Trial, way: str) -> None:
    """Two requests read and change the same row at once: the one that loses is done again, unseen."""
    tried.ask(_create_counters, way)
    for _ in range(ROUNDS):
        work = _Rivals(way, _count_up)
        assert _asked_twice(tried, work, way) == [200, 200]
        assert work.entries >= 3, "they did not conflict"
    assert tried.ask(_counters, way).response.json() == [2 * ROUNDS, 0]


def test_two_writers_who_deadlock_both_succeed(tried: Trial, way: str) -> None:
    """Two requests wait for each other: the server ends one, it is done again, both are done once."""
    tried.ask(_create_counters, way)
    for _ in range(5):
        work = _Rivals(way, _count_both_up)
        assert _asked_twice(tried, work, way) == [200, 200]
        assert work.entries >= 3, "they did not deadlock"
    assert tried.ask(_counters, way).response.json() == [10, 10]


def test_a_conflict_that_does_not_end_is_409(tried: Trial, way: str) -> None:
    """A unit of work is done five times at most; then the client decides."""
    tries = []

    def lose(session: Session) -> None:
        tries.append(session.scalar(text("SELECT 1")))
        session.execute(CONFLICT)

    answer = tried.ask(lose, way)
    assert (answer.status, answer.kind) == (409, "write-conflict")
    assert answer.response.headers["retry-after"] == "1"
    assert len(tries) == retries.UNIT_ATTEMPTS


def test_what_a_client_sent_is_there_for_the_second_try(tried: Trial, way: str) -> None:
    """A request that is run again has its body again."""
    tried.ask(_refuse_first_author, way)
    body = {"name": "ada", "email": "ada@example.com"}
    response = tried.client.post("/authors", json=body)
    assert response.status_code == 201, response.text
    again = tried.client.post("/authors", json=body)
    assert again.status_code == 409, "it was stored, once"


@pytest.mark.slow
@pytest.mark.parametrize("session", ["reading", "transaction"])
def test_a_backend_that_dies_in_a_request_is_not_noticed(tried: Trial, way: str, session: str) -> None:
    """A unit of work whose connection was lost before its COMMIT is done again: no error, no double."""
    for number in range(ROUNDS):
        work = _Mortal(adds=session == "transaction")
        answer = tried.ask(work, way, session)
        assert (answer.status, answer.response.json()) == (200, 1), (number, answer.response.text)
        assert work.entries == 2
    assert tried.ask(_count_authors, way, "reading").response.json() == (
        ROUNDS if session == "transaction" else 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("flight", ["on", "off"])
@pytest.mark.parametrize("end", ["silence", "reset"])
def test_a_lost_answer_to_commit_is_unknown_and_not_repeated(
    proxied_settings: Callable[..., Settings], proxy: Proxy, way: str, flight: str, end: str
) -> None:
    """The outcome is unknown (08007), and the row is stored once."""
    with Units.opened(Database(proxied_settings(DATABASE_SINGLE_FLIGHT=flight)), way) as units:
        script = Script(units, lambda session: session.execute(ADD_AUTHOR))
        if end == "reset":
            Timer(0.5, proxy.reset).start()
        with proxy.unanswered(b"COMMIT"), pytest.raises(DBAPIError) as failure, deadline(1.5):
            script.run()
        assert (sqlstate(failure), script.tries) == ("08007", 1)
        assert units.reading(_count_authors) == 1


@pytest.mark.parametrize("fault", [CONFLICT, DIE], ids=["a conflict", "a dead backend"])
def test_a_script_does_its_unit_of_work_again(units: Units, fault: TextClause) -> None:
    """`retry` and `async_retry` return what the unit did once it was done, and it was done once."""

    def work(session: Session) -> str:
        session.execute(ADD_AUTHOR)
        if script.tries < 3:
            session.execute(fault)
        return "done"

    script = Script(units, work)
    assert (script.run(), script.tries) == ("done", 3)
    assert units.reading(_count_authors) == 1


def test_a_script_gives_up_after_five_tries(units: Units) -> None:
    """A conflict that does not end is raised as it is."""
    script = Script(units, lambda session: session.execute(CONFLICT))
    with pytest.raises(DBAPIError) as failure:
        script.run()
    assert (sqlstate(failure), script.tries) == ("40001", retries.UNIT_ATTEMPTS)


@pytest.mark.slow
def test_a_script_gives_up_when_its_deadline_leaves_no_room(units: Units) -> None:
    """No pause is begun that would end after the deadline."""
    script = Script(units, lambda session: session.execute(SLOW_CONFLICT))
    with pytest.raises(DBAPIError), deadline(1):
        script.run()
    assert script.tries < retries.UNIT_ATTEMPTS


@pytest.mark.parametrize("mistake", ["SELECT 1/0", "INSERT INTO authors (name, email) VALUES ('a', 'b')"])
def test_a_script_does_not_repeat_a_mistake(units: Units, mistake: str) -> None:
    """A permanent error is raised at the first try."""
    script = Script(units, lambda session: session.execute(text(mistake)))
    with pytest.raises(DBAPIError):
        script.run()
    assert script.tries == 1


@dataclass
class Script:
    """A unit of work run by `retries.retry` or `retries.async_retry`, as outside of requests."""

    units: Units
    work: Callable[[Session], object]
    tries: int = 0

    def run(self) -> object:
        """Return the result of the unit of work."""
        if not self.units.is_async:
            return retries.retry(self._sync)
        with asyncio.Runner() as runner:
            return runner.run(self._close_after(retries.async_retry(self._async)), context=copy_context())

    def _sync(self) -> object:
        self.tries += 1
        with transaction(self.units.database) as session:
            return self.work(session)

    async def _async(self) -> object:
        self.tries += 1
        async with async_transaction(self.units.database) as session:
            return await session.run_sync(self.work)

    async def _close_after(self, work: Coroutine[None, None, object]) -> object:
        """Leave no connection of this loop behind."""
        try:
            return await work
        finally:
            await self.units.database.aclose()


class _Rivals:
    """A unit of work that two requests do at once; in their first tries they meet in the middle of it."""

    def __init__(self, way: str, change: Callable[[Session, int, Callable[[], object]], None]) -> None:
        self.entries = 0
        self._change = change
        # Two threads, or two tasks on one loop.
        threads, tasks = Barrier(2, timeout=PATIENCE_SECONDS), asyncio.Barrier(2)
        self._meet = threads.wait if way == "sync" else lambda: await_only(tasks.wait())

    def __call__(self, session: Session) -> None:
        self.entries += 1
        self._change(session, self.entries, self._meet if self.entries <= 2 else lambda: None)


class _Mortal:
    """A unit of work whose backend is ended in the midst of it, the first time."""

    def __init__(self, *, adds: bool) -> None:
        self.entries = 0
        self._adds = adds

    def __call__(self, session: Session) -> int:
        self.entries += 1
        if self._adds:
            session.execute(ADD_AUTHOR)
        if self.entries == 1:
            session.execute(DIE)
        return _read(session)


def _create_counters(session: Session) -> None:
    session.execute(text("CREATE TABLE counters (id integer PRIMARY KEY, n integer NOT NULL)"))
    session.execute(text("INSERT INTO counters VALUES (1, 0), (2, 0)"))


def _counters(session: Session) -> list[int]:
    return list(session.scalars(text("SELECT n FROM counters ORDER BY id")))


def _count_up(session: Session, _: int, meet: Callable[[], object]) -> None:
    """Read, then write what was read plus one."""
    session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    read = session.scalars(text("SELECT n FROM counters WHERE id = 1")).one()
    meet()
    session.execute(text("UPDATE counters SET n = :n WHERE id = 1"), {"n": read + 1})


def _count_both_up(session: Session, entry: int, meet: Callable[[], object]) -> None:
    """Write both counters, one of two who do so in the other order."""
    # The server looks for deadlocks after a second, unless told to look at once.
    session.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
    first, second = ({"id": 1}, {"id": 2}) if entry % 2 else ({"id": 2}, {"id": 1})
    count_up = text("UPDATE counters SET n = n + 1 WHERE id = :id")
    session.execute(count_up, first)
    meet()
    session.execute(count_up, second)


def _refuse_first_author(session: Session) -> None:
    """Let the first two attempts to add a user fail as if others had been in the way."""
    refuse = "IF nextval('tries') <= 2 THEN RAISE EXCEPTION USING ERRCODE = '40001'; END IF; RETURN NEW;"
    session.execute(text("CREATE SEQUENCE tries"))
    session.execute(
        text(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refuse} END $$")
    )
    session.execute(text("CREATE TRIGGER refuse BEFORE INSERT ON authors EXECUTE FUNCTION refuse()"))


def _asked_twice(tried: Trial, work: _Rivals, way: str) -> list[int]:
    with ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(lambda _: tried.ask(work, way), range(2)))
    return [answer.status for answer in answers]


@contextmanager
def _units(url: DatabaseURL, way: str) -> Iterator[Units]:
    """Units of work at `url`, which end within our patience."""
    settings = load_settings(DATABASE_URL=url.render(hide_password=False))
    with deadline(PATIENCE_SECONDS), Units.opened(Database(settings), way) as units:
        yield units


def _count_authors(session: Session) -> int:
    count: int = session.scalars(text("SELECT count(*) FROM authors")).one()
    return count


def _read(session: Session) -> int:
    answer: int = session.scalars(text("SELECT 1")).one()
    return answer
