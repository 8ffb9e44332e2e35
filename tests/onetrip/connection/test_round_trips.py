"""Round trips: how many a unit of work costs, counted on the wire with TLS on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, insert, literal, select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from lib.onetrip.connection.dialect import LAST
from lib.onetrip.connection.protocol import together
from lib.onetrip.deadlines import deadline
from lib.onetrip.observability.request_stats import RequestStats, collecting
from lib.onetrip.pool.database import Database
from lib.onetrip.session.batch import batch
from lib.onetrip.settings.settings import Settings
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.application import create_app
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers
from tests.onetrip.sync_or_async import Units
from tests.onetrip.tables import Book, Genre

SECONDS = 20
TIMEOUT: Any = func.current_setting("statement_timeout")


def _read(session: Session) -> list[str]:
    return [session.scalars(select(TIMEOUT)).one()]


def _read_twice(session: Session) -> list[str]:
    return [session.scalars(select(TIMEOUT)).one() for _ in range(2)]


def _insert_and_commit(session: Session) -> list[str]:
    statement = insert(Book).values(author_id=1, title="One").returning(Book.summary)
    return [session.scalars(statement, execution_options=LAST).one()]


def _change_and_commit(session: Session) -> list[str]:
    statement = update(Book).where(Book.id == 1).values(summary=TIMEOUT).returning(Book)
    return [session.scalars(statement, execution_options=LAST).one().summary]


def _add(session: Session) -> list[str]:
    session.add(book := Book(author_id=1, title="One"))
    session.flush()
    return [book.summary]


def _add_fifty(session: Session) -> list[str]:
    session.add_all(books := [Book(author_id=1, title=f"Number {number}") for number in range(50)])
    session.flush()
    return [book.summary for book in books]


def _read_modify_write(session: Session) -> list[str]:
    book, timeout = session.execute(select(Book, TIMEOUT).where(Book.id == 1)).one()
    book.genre = Genre.NOVEL
    return [timeout]


@dataclass(frozen=True)
class Case:
    """A unit of work, the session that it runs in, and its round trips: ours and the plain driver's."""

    name: str
    session: str
    work: Callable[[Session], list[str]]
    ours: int
    plain: int


CASES = [
    Case("read", "reading", _read, 1, 4),
    Case("two reads", "reading", _read_twice, 2, 8),
    Case("single-statement insert", "transaction", _insert_and_commit, 1, 4),
    Case("single-statement update", "transaction", _change_and_commit, 1, 4),
    Case("add and commit", "transaction", _add, 2, 4),
    Case("fifty added and commit", "transaction", _add_fifty, 2, 4),
    Case("read, modify, write", "transaction", _read_modify_write, 3, 5),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def _rows(servers: Servers, database_name: str) -> None:
    """An author and a book; a new book's summary is the statement timeout that it was stored under."""
    with psycopg.connect(**servers.url("direct", database_name).connect_arguments()) as connection:  # type: ignore[arg-type]
        connection.execute("ALTER TABLE books ALTER summary SET DEFAULT current_setting('statement_timeout')")
        connection.execute("INSERT INTO authors (name, email) VALUES ('ada', 'ada@example.com')")
        connection.execute("INSERT INTO books (author_id, title) VALUES (1, 'First')")


@pytest.fixture
def plain_units(proxied_settings: Callable[..., Settings], way: str) -> Iterator[Units]:
    """Units of work through the proxy with the plain driver."""
    with Units.opened(Database(proxied_settings(DATABASE_SINGLE_FLIGHT="off")), way) as units:
        yield units


def _flights(units: Units, proxy: Proxy, case: Case) -> tuple[int, list[str]]:
    """The round trips of a case on a connection that is open, and the timeouts it ran under."""
    units.connected(lambda _: None)
    run = units.reading if case.session == "reading" else units.transaction
    with deadline(SECONDS), proxy.counting() as flights, collecting(RequestStats()) as stats:
        timeouts = run(case.work)
    assert stats.round_trips == flights(), "what logs and headers tell is not what the wire saw"
    assert (stats.connections, stats.db_seconds > 0) == (0, True)
    return flights(), timeouts


def _milliseconds(timeout: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(ms|s|)", timeout).groups()  # type: ignore[union-attr]  # PostgreSQL's spelling
    return int(number) * (1000 if unit == "s" else 1)


@pytest.mark.usefixtures("in_flight")
@each_case
def test_a_unit_costs_no_more_round_trips_than_it_has_dependent_steps(
    units: Units, proxy: Proxy, case: Case
) -> None:
    """BEGIN and the timeouts ride with the first statement, and COMMIT with one said to be the last."""
    flights, timeouts = _flights(units, proxy, case)
    assert flights == case.ours
    assert all(0 < _milliseconds(timeout) <= SECONDS * 1000 for timeout in timeouts)


@pytest.mark.usefixtures("in_flight")
@pytest.mark.parametrize("work", [_read, _insert_and_commit])
def test_a_flight_leaves_in_one_piece(
    units: Units, monkeypatch: pytest.MonkeyPatch, work: Callable[[Session], list[str]]
) -> None:
    """BEGIN, settings, statement and COMMIT are handed to the network once, not one after the other."""
    sent: list[int] = []

    def collecting(pgconn: Any, messages: Any, *patience: Any, **follows: Any) -> Any:
        sent.append(len(messages))
        return together(pgconn, messages, *patience, **follows)

    units.connected(lambda _: None)
    monkeypatch.setattr("lib.onetrip.connection.flights.together", collecting)
    units.transaction(work)
    assert len(sent) == 1
    assert sent[0] > 2


@each_case
def test_the_plain_driver_costs_more_for_the_same_work(plain_units: Units, proxy: Proxy, case: Case) -> None:
    """With `DATABASE_SINGLE_FLIGHT=off` the same units work under the same timeouts, at a higher price."""
    flights, timeouts = _flights(plain_units, proxy, case)
    assert flights == case.plain > case.ours
    assert all(0 < _milliseconds(timeout) <= SECONDS * 1000 for timeout in timeouts)


@pytest.mark.usefixtures("in_flight")
def test_connecting_asks_nothing(
    proxied_settings: Callable[..., Settings], way: str, proxy: Proxy, tls_url: DatabaseURL
) -> None:
    """A new connection costs the login and not one round trip more, an engine's first one too."""
    # In TLS 1.3 the server may speak in the middle of the client's last burst of the handshake.
    parameters = {**tls_url.parameters, "ssl_max_protocol_version": "TLSv1.2"}
    url = replace(tls_url, parameters=parameters)
    with proxy.counting() as login:
        connection = psycopg.connect(**url.connect_arguments())  # type: ignore[arg-type]
        bare = login()
    rendered = url.render()
    database = Database(proxied_settings(DATABASE_URL=rendered, DATABASE_URL_UNPOOLED=rendered))
    # The first stays open meanwhile: closing it would be a round trip too.
    with connection, Units.opened(database, way) as units, proxy.counting() as flights:
        units.connected(lambda _: None)
        assert flights() == bare > 0
        assert connection.pgconn.ssl_in_use


def test_a_transaction_without_a_statement_sends_nothing(units: Units, proxy: Proxy) -> None:
    """Nothing is begun, committed or rolled back on the server if nothing was asked."""
    units.connected(lambda _: None)
    with proxy.counting() as flights:
        units.transaction(lambda _: None)
        units.transaction(Session.rollback)
        units.transaction(Session.flush)
        units.reading(lambda _: None)
        units.reading(Session.commit)
    assert flights() == 0


def _stream(session: Session) -> object:
    numbers = select(func.generate_series(1, 5000)).execution_options(yield_per=1000)
    return sum(session.scalars(numbers))


def _many_updates(session: Session) -> object:
    statement = text("UPDATE books SET title = :title WHERE id = :id")
    return session.execute(statement, [{"id": number, "title": "x"} for number in range(20)])


def _savepoint(session: Session) -> object:
    with session.begin_nested():
        return session.execute(text("SELECT 1")).scalar_one()


def _fail(session: Session) -> None:
    with pytest.raises(ProgrammingError):
        session.execute(text("SELEKT 1"))
    session.rollback()


def _together(session: Session) -> object:
    return batch(session, *(select(literal(number)) for number in range(3)))


# The plain driver's own pipelines send messages without awaiting answers, and its cursors are not counted.
@pytest.mark.parametrize(
    ("single_flight", "work"),
    [
        *[("on", work) for work in (_stream, _many_updates, _savepoint, _fail, _together)],
        *[("off", work) for work in (_savepoint, _fail, _together)],
    ],
)
def test_the_tally_is_what_the_wire_saw(
    proxied_settings: Callable[..., Settings],
    way: str,
    proxy: Proxy,
    single_flight: str,
    work: Callable[[Session], object],
) -> None:
    """Cursors, batches, savepoints and errors are counted as they leave, by whichever driver."""
    database = Database(proxied_settings(DATABASE_SINGLE_FLIGHT=single_flight))
    with Units.opened(database, way) as units:
        with collecting(RequestStats()) as first:
            units.connected(lambda _: None)
        with proxy.counting() as flights, collecting(RequestStats()) as stats:
            units.transaction(work)
        assert stats.round_trips == flights() > 0
    assert (first.connections, first.connect_seconds > 0) == (1, True)


REQUESTS = [
    ("GET", "/authors/1", None, 200, 1),
    ("POST", "/authors", {"name": "grace", "email": "grace@example.com"}, 201, 1),
    ("GET", "/authors/4711", None, 404, 1),
    ("GET", "/authors/x", None, 422, 0),
    ("GET", "/health/live", None, 200, 0),
]


@pytest.mark.usefixtures("in_flight")
@pytest.mark.parametrize(("method", "path", "body", "status", "count"), REQUESTS)
def test_a_request_costs_as_many_round_trips_as_its_unit_of_work(  # noqa: PLR0913, PLR0917  (a request and its price)
    proxied_database: Database, proxy: Proxy, method: str, path: str, body: Any, status: int, count: int
) -> None:
    """Nothing between route and wire asks for anything of its own: who calls is checked on the way."""
    with TestClient(create_app(proxied_database)) as client:
        assert client.get("/authors/1").status_code == 200
        with proxy.counting() as flights:
            response = client.request(method, path, json=body)
        assert (response.status_code, flights()) == (status, count), response.text
        assert f'desc="round trips: {count}"' in response.headers["server-timing"]
