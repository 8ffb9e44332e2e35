"""Many reads at once in one event loop, by threads and by tasks, on connections that they share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from inspect import isawaitable
from typing import Any

from sqlalchemy import Executable
from sqlalchemy.orm import Session

from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.pool.unit import Part, current_part, in_this_thread, one_unit
from lib.onetrip.session.session import NO_OPTIONS
from lib.onetrip.session.shared import async_sharing, sharing

SECONDS = 10.0
Ask = Callable[[int], Awaitable[object]]


def run(database: Database, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run the work in a loop whose reads share connections already, and end with all of them given back."""

    async def ran() -> Any:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                # Two sessions: several requests are served at once.
                stack.enter_context(sharing(database))
            await in_thread(database, lambda session: session.connection())
            try:
                return await work()
            finally:
                database.shared_reads.close()
                await asyncio.sleep(0)

    return asyncio.run(ran())


async def in_thread(
    database: Database,
    query: Callable[[Session], Any],
    options: Mapping[str, object] = NO_OPTIONS,
    seconds: float = SECONDS,
) -> Any:
    """The result of a query in a worker thread."""
    with deadline(seconds), sharing(database, options) as session:
        return await asyncio.to_thread(query, session)


async def without_session(query: Callable[[], Any] | Awaitable[Any]) -> Any:
    """The result of a query that a request asks of its database, in a worker thread or in a task."""
    with one_unit(), deadline(SECONDS):
        part = current_part()
        return await (query if isawaitable(query) else asyncio.to_thread(_asked, query, part))


def _asked(query: Callable[[], Any], part: Part | None) -> Any:
    with in_this_thread(part):
        return query()


async def in_task(
    database: Database,
    statement: Executable,
    parameters: Mapping[str, object],
    options: Mapping[str, object] = NO_OPTIONS,
    seconds: float = SECONDS,
) -> Any:
    """All rows of a statement, in a task."""
    with deadline(seconds):
        async with async_sharing(database, options) as session:
            return (await session.execute(statement, dict(parameters))).all()


async def at_once(count: int, number: int, ask: Ask) -> Counter[object]:
    """The outcomes of `number` asks, `count` at once: what `ask` returned, or the name of its error."""
    outcomes: Counter[object] = Counter()
    numbers = iter(range(number))

    async def one() -> None:
        for n in numbers:
            try:
                outcomes[await ask(n)] += 1
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1
            except Exception as error:  # noqa: BLE001  (counted)
                outcomes[getattr(getattr(error, "orig", None), "sqlstate", None) or repr(error)[:300]] += 1

    await asyncio.gather(*(one() for _ in range(count)))
    return outcomes
