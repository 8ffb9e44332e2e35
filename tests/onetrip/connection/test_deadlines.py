"""Every request is answered by its deadline, whatever the database, the network or a route does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from lib.onetrip import deadlines
from tests.onetrip.fault_routes import Answer, Function, Trial, Work, trial
from tests.onetrip.network import PATIENCE_SECONDS, sqlstate, transparent, until
from tests.onetrip.sync_or_async import WAYS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from lib.onetrip.settings.settings import Settings
    from tests.onetrip.conftest import Certificates
    from tests.onetrip.fault_proxy import Proxy
    from tests.onetrip.servers import Servers
    from tests.onetrip.sync_or_async import Units

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 1.5
# An order of magnitude more: a machine is busy, but nothing waits for what is silent.
BOUND_SECONDS = 15.0
CROWD = 50
TIMEOUT, UNKNOWN = (504, "timeout"), (504, "outcome-unknown")
UNAVAILABLE, BUSY = (503, "database-unavailable"), (503, "busy")
ADD_AUTHOR = text("INSERT INTO authors (name, email) VALUES (gen_random_uuid(), gen_random_uuid())")


@pytest.fixture
def proxy(servers: Servers, certificates: Certificates, route: str) -> Iterator[Proxy]:
    """A network that can tell a COMMIT from anything else."""
    with transparent(servers, certificates, route) as proxy:
        yield proxy


@pytest.fixture
def many(proxied_settings: Callable[..., Settings]) -> Iterator[Trial]:
    """A process that serves all clients at once."""
    settings = proxied_settings(
        REQUEST_TIMEOUT_SECONDS=DEADLINE_SECONDS,
        DATABASE_POOL="server",
        DATABASE_POOL_SIZE=CROWD,
        DATABASE_MAX_OVERFLOW=0,
    )
    with trial(settings) as many:
        yield many


@pytest.fixture
def tiny(proxied_settings: Callable[..., Settings]) -> Iterator[Trial]:
    """A process with two connections of each kind."""
    settings = proxied_settings(REQUEST_TIMEOUT_SECONDS=DEADLINE_SECONDS, DATABASE_POOL="tiny")
    with trial(settings) as tiny:
        yield tiny


@pytest.mark.parametrize("session", ["transaction", "reading"])
def test_a_slow_query_is_given_up(many: Trial, session: str) -> None:
    """A query that would take a minute ends with the request that asked it, and leaves no harm behind."""
    _assert_answered(many.crowd(_sleep, CROWD, session), {TIMEOUT, UNAVAILABLE})
    _assert_healthy(many)


def test_a_peer_that_is_silent_in_connect_is_given_up(many: Trial, proxy: Proxy) -> None:
    """A server that accepts and stays silent delays no request beyond the deadline."""
    with proxy.silence():
        _assert_answered(many.crowd(_read, CROWD), {UNAVAILABLE, TIMEOUT})
    _assert_healthy(many)


@pytest.mark.parametrize("session", ["transaction", "reading"])
def test_a_peer_that_goes_silent_in_a_query_is_given_up(many: Trial, proxy: Proxy, session: str) -> None:
    """A request whose database never answers is answered."""
    many.crowd(_read, CROWD, session)
    with proxy.silence():
        _assert_answered(many.crowd(_read, CROWD, session), {UNAVAILABLE, TIMEOUT})
    _assert_healthy(many)


def test_a_commit_without_an_answer_is_unknown_and_not_repeated(many: Trial, proxy: Proxy) -> None:
    """The client is told that the outcome is unknown, and the work was committed once."""
    # Connected before: on a busy machine that alone may take the time.
    many.crowd(_read, CROWD, "transaction")
    with proxy.unanswered(b"COMMIT"):
        _assert_answered(many.crowd(_add_author, CROWD), {UNKNOWN})
    _assert_healthy(many)
    assert many.ask(_count_authors, "sync", "reading").response.json() == CROWD


def test_a_commit_that_never_arrived_is_unknown_too(many: Trial, proxy: Proxy) -> None:
    """Silence from before the COMMIT looks the same to the client, and nothing is stored later on."""

    def add_into_silence(session: Session) -> None:
        session.execute(ADD_AUTHOR)
        proxy.forget()

    for way in WAYS:
        _assert_answered([many.ask(add_into_silence, way)], {UNKNOWN})
    assert many.ask(_count_authors, "sync", "reading").response.json() == 0


def test_a_commit_that_is_too_late_is_not_sent(units: Units) -> None:
    """Once the deadline is over nothing is stored, and the error says so: canceled, not unknown."""

    def dawdle(session: Session) -> None:
        session.execute(ADD_AUTHOR)
        until(lambda: not seconds.seconds_left)

    # Connected before: on a busy machine that alone may take the time.
    assert units.reading(_count_authors) == 0
    with pytest.raises(OperationalError) as failure, deadlines.deadline(0.5) as seconds:
        units.transaction(dawdle)
    assert sqlstate(failure) == "57014"
    assert units.reading(_count_authors) == 0


def test_a_request_that_is_ended_in_a_commit_is_unknown(tiny: Trial, proxy: Proxy) -> None:
    """Even if a busy process notices the deadline too late and cuts off the route.

    On a slow machine the end may come before the COMMIT is sent; then nothing is stored.
    """

    def add_and_block(session: Session) -> None:
        session.execute(ADD_AUTHOR)
        # Keeps the loop busy from before the deadline until the request is cut off.
        loop = asyncio.get_running_loop()
        loop.call_later(DEADLINE_SECONDS - 0.3, time.sleep, 1)

    with proxy.unanswered(b"COMMIT"):
        answer = tiny.ask(add_and_block, "async")
    _assert_answered([answer], {UNKNOWN, TIMEOUT})
    stored = tiny.ask(_count_authors, "sync", "reading").response.json()
    assert stored == (1 if (answer.status, answer.kind) == UNKNOWN else 0)


def test_an_exhausted_pool_turns_away_in_time(proxied_settings: Callable[..., Settings]) -> None:
    """Those who find no free connection are told to come again, after the time a pool may take."""
    settings = proxied_settings(
        REQUEST_TIMEOUT_SECONDS=DEADLINE_SECONDS, DATABASE_POOL="tiny", DATABASE_POOL_TIMEOUT=1
    )
    with trial(settings) as tried:
        answers = tried.crowd(_sleep, CROWD)
        _assert_answered(answers, {TIMEOUT, BUSY})
        turned_away = [answer for answer in answers if answer.status == BUSY[0]]
        assert len(turned_away) > CROWD / 2
        assert {answer.response.headers["retry-after"] for answer in turned_away} == {"1"}
        _assert_healthy(tried)


@pytest.mark.parametrize("way", WAYS)
def test_connections_held_by_other_work_do_not_hold_a_request(tiny: Trial, way: str) -> None:
    """Work outside of requests may have taken every connection: a request still ends in time."""
    with _all_held(tiny, way):
        _assert_answered([tiny.ask(_read, way, "reading")], {TIMEOUT, BUSY})
    _assert_healthy(tiny)


def test_tries_to_connect_end_with_the_deadline(many: Trial, proxy: Proxy) -> None:
    """A server that refuses is tried again, but not for ever."""
    with proxy.down():
        _assert_answered(many.crowd(_read, CROWD), {UNAVAILABLE, TIMEOUT})
    _assert_healthy(many)


def test_tries_after_a_conflict_end_with_the_deadline(many: Trial) -> None:
    """A unit of work that loses again and again is repeated, but not for ever."""
    _assert_answered(many.crowd(_lose, CROWD), {(409, "write-conflict"), TIMEOUT, BUSY, UNAVAILABLE})
    _assert_healthy(many)


def test_a_route_that_waits_for_something_else_is_ended(tiny: Trial) -> None:
    """The deadline is the request's: who waits elsewhere is answered by it too."""
    with ThreadPoolExecutor(CROWD) as clients:
        paths = [f"/trial/{WAYS[number % 2]}/idleness" for number in range(CROWD)]
        answers = list(clients.map(tiny.post, paths))
    _assert_answered(answers, {TIMEOUT})
    _assert_healthy(tiny)


def test_a_sync_route_that_outlives_its_answer_stores_nothing(tiny: Trial) -> None:
    """A thread cannot be ended, but what it does after its request was answered is rolled back."""
    ended = Event()

    def outlive(session: Session) -> None:
        session.execute(ADD_AUTHOR)
        time.sleep(DEADLINE_SECONDS + 1)
        try:
            session.execute(ADD_AUTHOR)
        finally:
            ended.set()

    _assert_answered([tiny.ask(outlive, "sync")], {TIMEOUT})
    assert ended.wait(PATIENCE_SECONDS)
    _assert_healthy(tiny)
    assert tiny.ask(_count_authors, "sync", "reading").response.json() == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_statement_ended_by_the_server_leaves_its_connection_usable(
    tiny: Trial, proxy: Proxy, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is given a little less time than the client, so that the connection need not be cut."""
    # So much less that a slow machine makes no difference.
    monkeypatch.setattr(deadlines, "SERVER_MARGIN_SECONDS", 1.0)
    before = tiny.ask(_backend, way).response.json()
    _assert_answered([tiny.ask(_sleep, way)], {TIMEOUT})
    assert tiny.ask(_backend, way).response.json() == before
    assert proxy.connections == 1


@pytest.fixture
def functions(
    proxied_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Function]]:
    """Instances of the function on Lambda."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "trial")
    functions = [Function(proxied_settings()) for _ in range(8)]
    # FastAPI completes its routes with the first request, which is no work for several threads at once.
    for function in functions:
        assert function.invoke("/nowhere", _read).status == 404
    yield functions
    for function in functions:
        function.close()


def test_on_lambda_a_slow_request_is_answered_before_the_function_is_ended(functions: list[Function]) -> None:
    """With two seconds left, as the context tells, the answer is there before they are over."""
    paths = [f"/{way}/{session}" for way in WAYS for session in ("transaction", "reading")]
    _assert_in_time(functions, [*paths, *["/async/idleness"] * 4], _sleep, {TIMEOUT})


def test_on_lambda_silence_is_answered_before_the_function_is_ended(
    functions: list[Function], proxy: Proxy
) -> None:
    """A peer that goes silent, before the function has a connection or after."""
    paths = [f"/{way}/{session}" for session in ("transaction", "reading") for way in WAYS] * 2
    # Before and after, all that matters is that it answers, on a busy machine too.
    for warm, path in zip(functions[:4], paths, strict=False):
        assert warm.invoke(path, _read, seconds=20).status == 200
    with proxy.silence():
        _assert_in_time(functions, paths, _read, {TIMEOUT, UNAVAILABLE})
    for function, path in zip(functions, paths, strict=True):
        assert function.invoke(path, _read, seconds=20).status == 200


def test_on_lambda_a_lost_answer_to_commit_is_told_before_the_function_is_ended(
    functions: list[Function], proxy: Proxy
) -> None:
    """The client is told that the outcome is unknown, and nothing is stored twice."""
    with proxy.unanswered(b"COMMIT"):
        _assert_in_time(functions, [f"/{way}/transaction" for way in WAYS] * 4, _add_author, {UNKNOWN})
    assert functions[0].invoke("/sync/reading", _count_authors).body == len(functions)


def _assert_in_time(
    functions: list[Function], paths: list[str], work: Work, kinds: set[tuple[int, str]]
) -> None:
    """Each function answers its request with one of `kinds` while the platform still lets it run."""
    with ThreadPoolExecutor(len(functions)) as platform:
        invocations = list(platform.map(Function.invoke, functions, paths, [work] * len(functions)))
    for invocation in invocations:
        assert (invocation.status, invocation.kind) in kinds, invocation.body
        assert invocation.milliseconds_left > 0


@contextmanager
def _all_held(tried: Trial, way: str) -> Iterator[None]:
    """Every connection that `way` may use is taken, past the gate."""
    database, portal = tried.app.state.onetrip.database, tried.client.portal
    assert portal is not None
    with ExitStack() as stack:
        for _ in range(database.capacity):
            if way == "sync":
                stack.enter_context(database.engine.connect())
            else:
                connection = portal.call(database.async_engine.connect().start)
                stack.callback(portal.call, connection.close)
        yield


def _sleep(session: Session) -> None:
    session.execute(text("SELECT pg_sleep(60)"))


def _lose(session: Session) -> None:
    session.execute(
        text("DO $$ BEGIN PERFORM pg_sleep(0.4); RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
    )


def _add_author(session: Session) -> None:
    session.execute(ADD_AUTHOR)


def _count_authors(session: Session) -> int:
    count: int = session.scalars(text("SELECT count(*) FROM authors")).one()
    return count


def _read(session: Session) -> int:
    answer: int = session.scalars(text("SELECT 1")).one()
    return answer


def _backend(session: Session) -> int:
    number: int = session.scalars(text("SELECT pg_backend_pid()")).one()
    return number


def _assert_answered(answers: list[Answer], kinds: set[tuple[int, str]]) -> None:
    """Every client was answered in time, with one of the problems in `kinds`."""
    for answer in answers:
        assert (answer.status, answer.kind) in kinds, answer.response.text
        assert answer.seconds < BOUND_SECONDS


def _assert_healthy(tried: Trial) -> None:
    """The fault is gone, and so are its effects: the next requests are served."""
    for way in WAYS:
        answer = tried.ask(_read, way, "reading")
        assert (answer.status, answer.response.json()) == (200, 1), answer.response.text
