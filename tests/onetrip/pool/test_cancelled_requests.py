"""A request that is cancelled gives back what it used, whatever its worker thread is at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from lib.onetrip.fastapi import worker_threads
from tests.onetrip.fault_routes import application, posted
from tests.onetrip.network import until

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from lib.onetrip.pool.database import Database

ONE = text("SELECT 1")
TRANSACTION = text("SELECT pg_current_xact_id()::text")
PATH = "/trial/sync/transaction"


def _cancelled_once(
    database: Database,
    work: Callable[[Session], object],
    begun: Event,
    afterwards: Callable[[], object] = lambda: None,
) -> None:
    """Cancel a request to `work` once it has begun; its connection comes back, and another one succeeds."""
    app = application(database)
    pool: Any = database.engine.pool

    async def run() -> None:
        app.state.works["it"] = work
        request = asyncio.create_task(posted(app, PATH))
        await asyncio.to_thread(begun.wait)
        request.cancel()
        with suppress(asyncio.CancelledError):
            await request
        afterwards()
        await asyncio.to_thread(until, lambda: pool.checkedout() == 0)
        app.state.works["it"] = lambda session: session.scalar(ONE)
        assert await posted(app, PATH) == 200

    asyncio.run(run())


def test_a_request_cancelled_while_its_thread_works_gives_its_connection_back(database: Database) -> None:
    """The thread goes on with the session, which is left only after it, and then at once."""
    begun, cancelled = Event(), Event()
    # Kept, so that nothing is tidied away by the garbage collector.
    kept: list[Session] = []
    transactions: list[object] = []

    def work(session: Session) -> None:
        kept.append(session)
        transactions.append(session.scalar(TRANSACTION))
        begun.set()
        # A session left now would begin another transaction, which would stay open.
        cancelled.wait()
        transactions.append(session.scalar(TRANSACTION))

    _cancelled_once(database, work, begun, cancelled.set)
    before, after = transactions
    assert before == after


def test_a_request_cancelled_before_its_session_is_left_leaves_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while a COMMIT or ROLLBACK waits for a worker thread, it is done all the same."""
    begun = Event()

    async def never(_function: Any) -> Any:
        # The moment before a worker takes it up.
        begun.set()
        monkeypatch.undo()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(worker_threads, "in_own_worker", never)
    _cancelled_once(database, lambda session: session.scalar(ONE), begun)
