"""The same operations on this package's connections and on SQLAlchemy's own, and no difference."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio

from lib.onetrip.connection.single_flight import FlightAsyncConnection, FlightConnection
from lib.onetrip.pool.engines import create_async_engine, create_engine
from tests.faults.operations import OPTIONS, SCHEMA, Sequence
from tests.faults.promises import SEED

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.onetrip.servers import Servers

Outcome = tuple[list[tuple[str, ...]], list[tuple[Any, ...]]]


class Side:
    """One of the two engines, on a database of its own."""

    def __init__(self, url: str, *, ours: bool, is_async: bool, checker: psycopg.Connection[Any]) -> None:
        self.checker = checker
        self.is_async = is_async
        stock_url = url.replace("postgresql://", "postgresql+psycopg://")
        stock: dict[str, Any] = {"connect_args": {"prepare_threshold": None}, "use_native_hstore": False}
        self.engine: Any
        if is_async:
            stock_async = sqlalchemy_asyncio.create_async_engine
            self.engine = create_async_engine(url) if ours else stock_async(stock_url, **stock)
        else:
            self.engine = create_engine(url) if ours else sqlalchemy.create_engine(stock_url, **stock)

    def run(self, runner: asyncio.Runner, seed: int, options: dict[str, Any]) -> Outcome:
        """The log of a sequence, and the rows that it left."""
        self.checker.execute("TRUNCATE notes, parents")

        def work(connection: sqlalchemy.Connection) -> list[tuple[str, ...]]:
            return Sequence(connection, seed).run()

        async def work_async() -> list[tuple[str, ...]]:
            async with self.engine.execution_options(**options).connect() as connection:
                return await asyncio.wait_for(connection.run_sync(work), 30)

        if self.is_async:
            log = runner.run(work_async())
        else:
            with self.engine.execution_options(**options).connect() as connection:
                log = work(connection)
        return log, self.checker.execute("SELECT id, parent FROM notes ORDER BY id").fetchall()


@pytest.fixture
def databases(servers: Servers) -> Iterator[list[str]]:
    """Two empty databases."""
    with servers.copy() as one, servers.copy() as other:
        yield [one, other]


# A sequence may leave a server-side cursor open, as programs do, on either side.
@pytest.mark.filterwarnings(
    "ignore:.*deleted while still open", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("route", ["direct", "pooled", "plain"])
def test_no_difference_to_the_stock_dialect(
    servers: Servers, rows: Rows, route: str, way: str, databases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers, SQLSTATEs and stored rows of random sequences are those of SQLAlchemy's own dialect."""
    row = rows(f"stock-{route}-{way}", 500 if route == "plain" else 2_500, 150)
    if route == "plain":
        route = "direct"
        for connection in (FlightConnection, FlightAsyncConnection):
            monkeypatch.setattr(connection, "single_flight", False)
    with asyncio.Runner() as runner, ExitStack() as stack:
        sides = []
        for name, ours in zip(databases, (True, False), strict=True):
            arguments: Any = servers.url("direct", name).connect_arguments()
            checker = stack.enter_context(psycopg.connect(**arguments, autocommit=True))
            checker.execute(SCHEMA.encode())
            url = servers.url(route, name).render(hide_password=False)
            sides.append(Side(url, ours=ours, is_async=way == "async", checker=checker))
        for seed in range(SEED, SEED + row.of):
            options = OPTIONS[seed % len(OPTIONS)]
            mine, stock = (side.run(runner, seed, options) for side in sides)
            row.count(mine == stock, f"seed {seed}, {options}:\n{_difference(mine, stock)}")
        for side in sides:
            disposed = side.engine.dispose()
            if way == "async":
                runner.run(disposed)
    row.check()


def _difference(ours: Outcome, stock: Outcome) -> str:
    steps = [
        f"{n}: {one}   stock: {other}"
        for n, (one, other) in enumerate(zip(ours[0], stock[0], strict=True))
        if one != other
    ]
    return "\n".join([*steps, f"stored: {ours[1]}   stock: {stock[1]}"])
