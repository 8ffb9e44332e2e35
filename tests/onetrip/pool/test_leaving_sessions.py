"""A session is left on the event loop only if nothing is sent for it: the loop waits for no database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from lib.onetrip.fastapi import worker_threads
from lib.onetrip.pool.database import Database
from tests.onetrip.fault_routes import application, posted

ROWS = text("SELECT generate_series(1, 5000)")


def _read(session: Session) -> object:
    return session.scalar(text("SELECT 1"))


def _stream(session: Session) -> object:
    # Its server-side cursor is closed; the transaction that it needed is not.
    with session.execute(ROWS, execution_options={"yield_per": 10}) as rows:
        return next(rows.scalars())


def _fail(session: Session) -> object:
    return session.scalar(text("SELECT 1 / 0"))


@pytest.mark.parametrize(
    ("work", "path", "on_the_loop"),
    [
        (_read, "reading", True),
        (_fail, "reading", True),
        (_stream, "reading", False),
        (_read, "transaction", False),
    ],
    ids=["read", "failed read", "stream", "transaction"],
)
@pytest.mark.usefixtures("in_flight")
def test_what_sends_nothing_is_left_on_the_loop_and_the_rest_in_a_worker_thread(
    database: Database,
    work: Callable[[Session], object],
    path: str,
    on_the_loop: bool,  # noqa: FBT001  (what is expected)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a read the session ends without a further hop to a thread; a ROLLBACK or COMMIT waits in one."""
    app = application(database)
    app.state.works["it"] = work
    hops: list[object] = []
    called = worker_threads._Threads.called  # noqa: SLF001  (each hop goes through it)

    async def counted(threads: Any, function: Any) -> Any:
        hops.append(function)
        return await called(threads, function)

    monkeypatch.setattr(worker_threads._Threads, "called", counted)  # noqa: SLF001  (the same)
    asyncio.run(posted(app, f"/trial/sync/{path}"))
    assert len(hops) == (1 if on_the_loop else 2)
