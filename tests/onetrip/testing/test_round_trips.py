"""The budget of round trips: as many as on the wire, each with its line, N+1 by its relation's name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, Engine, NullPool, insert, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, selectinload

from lib.onetrip.pool.database import Database
from lib.onetrip.pool.engines import create_engine
from lib.onetrip.testing import RoundTripsError, round_trips
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers
from tests.onetrip.shared_reads.concurrent_reads import at_once, in_task, run
from tests.onetrip.sync_or_async import Units
from tests.onetrip.tables import Author, Book

_numbers = count()


def new_name() -> str:
    """Make a name that no statement had."""
    return f"number_{next(_numbers)}"


def _read(session: Session) -> None:
    session.execute(text("SELECT 1"))


def _add(session: Session) -> None:
    session.add(Author(name="ada", email="ada@example.com", books=[Book(title="Notes")]))


def _insert_many(session: Session) -> None:
    rows = [{"name": f"name{n}", "email": f"{n}@example.com"} for n in range(50)]
    session.execute(insert(Author), rows)


def _savepoint(session: Session) -> None:
    with session.begin_nested():
        _read(session)


def _fail(session: Session) -> None:
    with pytest.raises(ProgrammingError):
        session.execute(text("SELEKT 1"))
    session.rollback()


def _stream(session: Session) -> None:
    statement = text("SELECT generate_series(1, 500)").execution_options(yield_per=100)
    assert len(session.execute(statement).all()) == 500


def _prepared(session: Session) -> None:
    for number in range(8):
        session.execute(select(Author).where(Author.id == number))


@pytest.fixture
def url(servers: Servers, database_name: str) -> str:
    """The test's database, as any program takes it."""
    return servers.url("direct", database_name).render(hide_password=False)


@pytest.fixture(params=["plain", "onetrip"])
def engine(request: pytest.FixtureRequest, url: str) -> Iterator[Engine]:
    """SQLAlchemy's own engine, and the package's."""
    make: Callable[[str], Engine] = create_engine
    if request.param == "plain":
        url, make = url.replace("postgresql://", "postgresql+psycopg://"), sqlalchemy.create_engine
    engine = make(url)
    yield engine
    engine.dispose()


@pytest.fixture
def shelf(engine: Engine) -> None:
    """Three authors with two books each."""
    with Session(engine) as session, session.begin():
        for name in ("ada", "grace", "mary"):
            books = [Book(title=title) for title in ("First", "Second")]
            session.add(Author(name=name, email=f"{name}@example.com", books=books))


@pytest.mark.parametrize("single_flight", ["on", "off"])
@pytest.mark.parametrize("work", [_read, _add, _insert_many, _savepoint, _fail, _stream, _prepared])
def test_as_many_are_counted_as_the_wire_saw(
    proxied_settings: Callable[..., Any],
    way: str,
    proxy: Proxy,
    single_flight: str,
    work: Callable[[Session], None],
) -> None:
    """Through TLS, directly and pooled, sync and async, with the plain driver and with single flights."""
    database = Database(proxied_settings(DATABASE_SINGLE_FLIGHT=single_flight))
    with Units.opened(database, way) as units:
        units.connected(lambda _: None)
        with proxy.counting() as flights, round_trips() as trips:
            units.transaction(work)
        assert trips.count == flights() > 0, trips


@pytest.mark.usefixtures("in_flight")
def test_reads_that_share_connections_are_counted_once(proxied_settings: Callable[..., Any]) -> None:
    """Their stand-ins for connections count nothing, also where the block begins beside them."""
    database = Database(proxied_settings())

    async def asked(number: int) -> None:
        await in_task(database, text("SELECT CAST(:n AS int)"), {"n": number})

    async def work() -> None:
        while database.shared_reads.report()["lines"] < 2:
            await at_once(10, 50, asked)
        with round_trips(10):
            await at_once(1, 10, asked)

    run(database, work)
    database.close()


def test_another_drivers_connections_are_left_alone(engine: Engine) -> None:
    """Whether they are older than the block, or opened in it."""
    other = sqlalchemy.create_engine("sqlite://", poolclass=NullPool)
    with other.connect() as old, round_trips() as trips, other.connect() as new, engine.connect() as ours:
        ours.execute(text("SELECT 1"))
        number = trips.count
        assert [old.scalar(text("SELECT 1")), new.scalar(text("SELECT 1"))] == [1, 1]
        assert trips.count == number > 0


def _twice(connection: Connection) -> None:
    # Anew each time: the plain driver prepares what it has seen five times, by a round trip of its own.
    for _ in range(2):
        connection.execute(text(f"SELECT 1 AS {new_name()}"))


def test_a_budget_is_exact(engine: Engine) -> None:
    """One more is an error, and one fewer: a statement that is no longer sent is noticed too."""
    with engine.connect() as connection:
        _twice(connection)
        for budget in (1, 3):
            with pytest.raises(RoundTripsError, match="there were 2"), round_trips(budget):
                _twice(connection)
        with round_trips(2), round_trips(at_most=2):
            _twice(connection)
        with round_trips(0):
            pass


def test_more_than_at_most_is_an_error(engine: Engine) -> None:
    """`at_most` names a limit that may be undercut; budgets lie in each other."""
    with engine.connect() as connection, round_trips(at_most=40):
        _twice(connection)
        with pytest.raises(RoundTripsError, match="at_most=1"), round_trips(at_most=1):
            _twice(connection)


@pytest.mark.parametrize("arguments", [{"expected": 1, "at_most": 1}, {"expected": -1}, {"at_most": -1}])
def test_a_budget_that_nothing_can_keep_is_refused(arguments: dict[str, int]) -> None:
    """A mistake in a test is told from a failure of the application."""
    with pytest.raises(ValueError, match=r"Write round_trips\(2\)"), round_trips(**arguments):
        pass


def test_a_new_connection_costs_nothing(engine: Engine) -> None:
    """The count is the same with and without a connection in the pool."""
    with round_trips() as first, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    with round_trips() as second, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert first.count == second.count > 0


def test_each_round_trip_has_its_line(engine: Engine) -> None:
    """A failure says where the application was, for every one of them."""
    with pytest.raises(RoundTripsError) as failure, round_trips(0), Session(engine) as session:
        _add(session)
        session.flush()
        session.commit()
    told = str(failure.value)
    assert "INSERT INTO authors" in told
    assert "COMMIT" in told
    lines = [line for line in told.splitlines() if "test_round_trips.py:" in line]
    assert len(lines) == told.count("\n") // 2
    assert all("test_each_round_trip_has_its_line" in line for line in lines)


@pytest.mark.usefixtures("shelf")
def test_a_lazy_load_in_a_loop_is_named(engine: Engine) -> None:
    """N+1 has the relation's name, its number and the remedy; what loads with the query has not."""
    with Session(engine) as session, pytest.raises(RoundTripsError) as failure, round_trips(0):
        for author in session.scalars(select(Author)):
            assert len(author.books) == 2
    assert "N+1: Author.books was loaded 3 times" in str(failure.value)
    assert "selectinload(Author.books)" in str(failure.value)
    with Session(engine) as session, round_trips() as trips:
        for author in session.scalars(select(Author).options(selectinload(Author.books))):
            assert len(author.books) == 2
    assert "N+1" not in str(trips)


@pytest.mark.usefixtures("shelf")
def test_rows_that_a_commit_expired_are_named(engine: Engine) -> None:
    """Rows read again one by one have their class's name and the remedy."""
    with Session(engine) as session, round_trips() as trips:
        authors = session.scalars(select(Author)).all()
        session.commit()
        assert [author.name for author in authors] == ["ada", "grace", "mary"]
    assert "N+1: 3 rows of Author were read again" in str(trips)


def test_an_async_engine_of_sqlalchemys_own_is_counted(url: str) -> None:
    """Its lines are those of the code that awaits it."""

    async def work() -> None:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            await session.commit()
        await engine.dispose()

    with round_trips() as trips:
        asyncio.run(work())
    assert trips.count == 3
    assert str(trips).count("test_round_trips.py:") == 3


def test_an_error_in_the_block_is_not_hidden(engine: Engine) -> None:
    """A budget is asked about only if the block came to its end, and counting stops with it."""
    with pytest.raises(ZeroDivisionError), round_trips(0), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        _ = 1 / 0
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with round_trips(1):
            connection.execute(text("SELECT 1"))
