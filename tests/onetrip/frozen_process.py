"""A process to freeze: it asks the database once for each line it reads, and prints what came of it."""

from __future__ import annotations

import asyncio
import sys
from contextvars import copy_context

from sqlalchemy import text

from lib.onetrip.deadlines import deadline
from lib.onetrip.pool import validation as liveness
from lib.onetrip.pool.database import database
from lib.onetrip.session.session import async_reading, reading

PATIENCE_SECONDS = 10
ASK = text("SELECT 'answered'")


def main(way: str, ping_after_seconds: float) -> None:
    """Ask `way` (sync or async); a freeze longer than `ping_after_seconds` makes it doubt its connection."""
    liveness.PING_AFTER_SECONDS = ping_after_seconds
    with asyncio.Runner() as runner:
        for _ in sys.stdin:
            try:
                with deadline(PATIENCE_SECONDS):
                    answer = runner.run(_async_ask(), context=copy_context()) if way == "async" else _ask()
            except Exception as error:  # noqa: BLE001  (the test wants to see any)
                answer = repr(error)
            print(answer, flush=True)
        runner.run(database().aclose())


def _ask() -> str:
    with reading() as session:
        return str(session.scalar(ASK))


async def _async_ask() -> str:
    async with async_reading() as session:
        return str(await session.scalar(ASK))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
