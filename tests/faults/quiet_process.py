"""A process whose peer falls silent: it works once for each line that it reads, and prints the outcome."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from lib import onetrip
from lib.onetrip.deadlines import deadline
from lib.onetrip.health.probe import Probe
from lib.onetrip.pool.database import Database

DEADLINE_SECONDS = 10.0
READ = text("SELECT 'answered'")
WRITE = text("INSERT INTO notes VALUES (:id)")


def main(url: str) -> None:
    """Work on the database of `url`: lines are of the work, its way and a number."""
    database = Database(url)
    works = _works(database)
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            name, number = json.loads(line)
            begin = time.monotonic()
            try:
                with deadline(DEADLINE_SECONDS):
                    work = works[name](number)
                    answer = runner.run(work) if asyncio.iscoroutine(work) else work
            except Exception as error:  # noqa: BLE001  (the test wants to see any)
                answer = repr(error)
            print(json.dumps([str(answer), time.monotonic() - begin]), flush=True)
        runner.run(database.aclose())


def _works(database: Database) -> dict[str, Callable[[int], Any]]:
    def read(_: int) -> Any:
        with onetrip.reading(database) as session:
            return session.scalar(READ)

    def kept(_: int) -> Any:
        with Session(database.engine) as session:
            return session.scalar(READ)

    def write(number: int) -> Any:
        with onetrip.transaction(database) as session:
            session.execute(WRITE, {"id": number})
        return "answered"

    async def async_read(_: int) -> Any:
        async with onetrip.async_reading(database) as session:
            return await session.scalar(READ)

    async def async_kept(_: int) -> Any:
        async with AsyncSession(database.async_engine) as session:
            return await session.scalar(READ)

    async def async_write(number: int) -> Any:
        async with onetrip.async_transaction(database) as session:
            await session.execute(WRITE, {"id": number})
        return "answered"

    def probe(_: int) -> Any:
        # It has two seconds, and is not repeated.
        return "answered" if Probe(database).report().status in {"ready", "down"} else "busy"

    asynchronous = (async_read, async_kept, async_write)
    works: dict[str, Callable[[int], Any]] = {work.__name__: _again(work) for work in (read, kept, write)}
    return {**works, **{work.__name__: _async_again(work) for work in asynchronous}, "probe": probe}


def _again(work: Callable[[int], Any]) -> Callable[[int], Any]:
    """The same work, repeated as the middleware repeats a request."""
    return lambda number: onetrip.retry(lambda: work(number))


def _async_again(work: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda number: onetrip.async_retry(lambda: work(number))


if __name__ == "__main__":
    main(sys.argv[1])
