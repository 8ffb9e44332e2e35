"""A process whose reads share connections, and which ends between two answers as one that is killed."""

from __future__ import annotations

import asyncio
import os
import sys

from sqlalchemy import text

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from tests.onetrip.shared_reads.concurrent_reads import in_task, run

# Long enough for the others to be under way when the first one is answered.
READ = text("SELECT -1, pg_sleep(0.03)")
AT_ONCE = 8


def main(url: str) -> None:
    """Read until the first answer is there, and end without a word."""
    database = Database(load_settings(DATABASE_URL=url, DATABASE_MODE="pooled", DATABASE_SHARED_READS="on"))

    async def work() -> None:
        await in_task(database, text("SELECT 0"), {})
        reads = [asyncio.create_task(in_task(database, READ, {})) for _ in range(AT_ONCE)]
        await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        os._exit(0)

    run(database, work)


if __name__ == "__main__":
    main(sys.argv[1])
