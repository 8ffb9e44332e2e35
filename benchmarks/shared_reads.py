"""Answers a second with shared reads and without, 50 requests at once, in one process.

    python -m benchmarks.shared_reads

asks an application by ASGI, through PgBouncer with TLS at several distances, and prints a table of ratios:
`session.get` in `def` routes and in async ones, beside the same process with connections of their own.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from benchmarks.delay_proxy import delayed
from benchmarks.peers.items import Item
from benchmarks.secure_pooler import endpoints, url
from lib.onetrip.fastapi import AsyncReadSessionDep, ReadSessionDep, install
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings

AT_ONCE = 50
ROUND_TRIPS_MS = (0, 2, 10, 30)
SECONDS = 1.5
WARMING_SECONDS = 0.5
ROUNDS = 3
DESIGNS = {
    "own, 2 connections": {"DATABASE_SHARED_READS": "off", "DATABASE_POOL": "tiny"},
    "own, 10 connections": {"DATABASE_SHARED_READS": "off", "DATABASE_POOL": "server"},
    "shared, 2 connections": {"DATABASE_SHARED_READS": "on", "DATABASE_POOL": "tiny"},
}
PATHS = {"def": "/items/1", "async def": "/async-items/1"}


def make_app(database: Database) -> FastAPI:
    """An application with a route of each kind."""
    app = FastAPI()
    install(app, database)

    @app.get("/items/{number}")
    def item(number: int, session: ReadSessionDep) -> dict[str, Any]:
        return _shown(session.get(Item, number))

    @app.get("/async-items/{number}")
    async def async_item(number: int, session: AsyncReadSessionDep) -> dict[str, Any]:
        return _shown(await session.get(Item, number))

    return app


def _shown(item: Item | None) -> dict[str, Any]:
    return {"id": item.id, "title": item.title} if item else {}


async def _ask(app: FastAPI, path: str) -> bool:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses == [200]


async def rate(app: FastAPI, path: str, at_once: int = AT_ONCE) -> tuple[float, int]:
    """Answers a second, and how many failed."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(at_once))
    answered = failed = 0
    begin = time.monotonic()
    end = begin + WARMING_SECONDS + SECONDS

    async def client() -> None:
        nonlocal answered, failed
        while (now := time.monotonic()) < end:
            right = await _ask(app, path)
            if now > begin + WARMING_SECONDS:
                answered += right
                failed += not right

    await asyncio.gather(*(client() for _ in range(at_once)))
    return answered / (time.monotonic() - begin - WARMING_SECONDS), failed


def measure(port: int, path: str, design: str, at_once: int = AT_ONCE) -> tuple[float, int]:
    """`rate` of a design whose process just began."""
    database = Database(load_settings(DATABASE_URL=url(port), DATABASE_MODE="pooled", **DESIGNS[design]))
    app = make_app(database)

    async def work() -> tuple[float, int]:
        try:
            return await rate(app, path, at_once)
        finally:
            await database.aclose()

    return asyncio.run(work())


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with (
            endpoints(Path(folder)) as made,
            delayed(made.pooler.port, [(each, 0) for each in ROUND_TRIPS_MS]) as ports,
        ):
            print(f"| Round trip | Route | {' | '.join(DESIGNS)} | Ratio to 2 | Ratio to 10 |", flush=True)
            print("|---:|---|" + "---:|" * (len(DESIGNS) + 2))
            for milliseconds, port in zip(ROUND_TRIPS_MS, ports, strict=True):
                for kind, path in PATHS.items():
                    _print_row(milliseconds, kind, port, path)


def _print_row(milliseconds: int, kind: str, port: int, path: str) -> None:
    rates: dict[str, list[float]] = {design: [] for design in DESIGNS}
    failures = 0
    for _ in range(ROUNDS):
        for design in DESIGNS:
            answered, failed = measure(port, path, design)
            rates[design].append(answered)
            failures += failed
    few, many, shared = (statistics.median(found) for found in rates.values())
    cells = f"{few:,.0f} | {many:,.0f} | {shared:,.0f} | {shared / few:.1f} | {shared / many:.1f}"
    print(
        f"| {milliseconds} ms | `{kind}` | {cells} |" + (f" {failures} failed" if failures else ""),
        flush=True,
    )


if __name__ == "__main__":
    main()
