"""The application with routes that stream rows of the database, as `python -m` serves it in tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

from fastapi.responses import StreamingResponse
from sqlalchemy import text

from api.index import app
from lib.onetrip.pool.database import database
from lib.onetrip.session.session import async_reading, reading

NUMBERS = text("SELECT generate_series(1, 500) AS n")


@app.get("/streams/events")
async def events(count: int = 3) -> StreamingResponse:
    """Server-sent events, each of which asks the database in a session of its own."""

    async def lines() -> AsyncIterator[str]:
        for number in range(count):
            async with async_reading(database()) as session:
                found = await session.scalar(text("SELECT :n + 0"), {"n": number})
            yield f"data: {found}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.get("/streams/lines")
def json_lines() -> StreamingResponse:
    """JSON lines of a result that is read in one session."""

    def lines() -> Iterator[str]:
        with reading(database()) as session:
            for row in session.execute(NUMBERS):
                yield json.dumps({"n": row.n}) + "\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


@app.get("/streams/rows")
def csv_rows() -> StreamingResponse:
    """The same as CSV."""

    def lines() -> Iterator[str]:
        with reading(database()) as session:
            yield "n\n"
            for row in session.execute(NUMBERS):
                yield f"{row.n}\n"

    return StreamingResponse(lines(), media_type="text/csv")


@app.get("/streams/endless")
async def endless() -> StreamingResponse:
    """A stream without an end."""

    async def lines() -> AsyncIterator[str]:
        while True:
            yield "data: still here\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.get("/streams/stalled")
async def stalled() -> StreamingResponse:
    """A stream whose second part does not come."""

    async def lines() -> AsyncIterator[str]:
        yield "data: here\n\n"
        await asyncio.sleep(60)
        yield "data: late\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.get("/streams/slow")
async def slow(seconds: float) -> str:
    """An answer that takes its time."""
    await asyncio.sleep(seconds)
    return "done"
