"""A slow call to elsewhere: the connection is let go before it, and a warning says where it was not."""

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import text

from lib.onetrip.fastapi.sessions import AsyncReadSessionDep, AsyncSessionDep, ReadSessionDep, SessionDep
from tests.idioms.conftest import Idiom

pytestmark = pytest.mark.slow

INSERT = text("INSERT INTO items (name) VALUES (:name)")
ONE = text("SELECT 1")
WARNING = "a connection was held without being used"
SLOW_SECONDS = 0.6
CONNECTIONS = 2


class Calls:
    """Calls to elsewhere: how many are under way, and how many were at most."""

    def __init__(self) -> None:
        self._now = self.most = 0

    def __enter__(self) -> None:
        self._now += 1
        self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        self._now -= 1


def test_a_connection_that_is_let_go_serves_others(idiom: Idiom, caplog: pytest.LogCaptureFixture) -> None:
    """After `commit()`, and in reading sessions always, a slow call keeps no other request waiting."""
    calls = Calls()

    @idiom.app.post("/sync/{n}")
    def sync_route(n: int, session: SessionDep) -> None:
        session.execute(INSERT, {"name": f"sync {n}"})
        session.commit()
        with calls:
            time.sleep(SLOW_SECONDS)
        session.execute(ONE)

    @idiom.app.post("/async/{n}")
    async def async_route(n: int, session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": f"async {n}"})
        await session.commit()
        with calls:
            await asyncio.sleep(SLOW_SECONDS)
        await session.execute(ONE)

    @idiom.app.post("/sync-read/{n}")
    def sync_read(n: int, session: ReadSessionDep) -> Any:
        session.execute(ONE)
        with calls:
            time.sleep(SLOW_SECONDS)
        return session.scalar(ONE) == n

    @idiom.app.post("/async-read/{n}")
    async def async_read(n: int, session: AsyncReadSessionDep) -> Any:
        await session.execute(ONE)
        with calls:
            await asyncio.sleep(SLOW_SECONDS)
        return await session.scalar(ONE) == n

    number = 2 if idiom.door == "lambda" else 16
    for path in ("/sync/{n}", "/async/{n}", "/sync-read/{n}", "/async-read/{n}"):
        calls.most = 0
        assert {reply.status for reply in idiom.at_once(path, number=number)} == {200}
        # With a connection held by each it would be as many as there are connections.
        assert idiom.door == "lambda" or calls.most > CONNECTIONS, path
    assert WARNING not in caplog.text


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_connection_that_is_held_across_a_slow_call_is_warned_of(
    idiom: Idiom, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """The route is named, between two statements and before the end."""

    @idiom.app.post("/sync")
    def sync_route(session: SessionDep) -> None:
        session.execute(ONE)
        time.sleep(SLOW_SECONDS)

    @idiom.app.post("/async")
    async def async_route(session: AsyncSessionDep) -> None:
        await session.execute(ONE)
        await asyncio.sleep(SLOW_SECONDS)
        await session.execute(ONE)

    assert idiom.ask(f"/{way}").status == 200
    record: Any = next(record for record in caplog.records if WARNING in record.message)
    assert record.fields["route"] == f"/{way}"
    assert record.fields["held_seconds"] >= SLOW_SECONDS
