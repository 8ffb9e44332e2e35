"""A design behind uvicorn, and clients that ask it over HTTP connections that stay open.

python -m benchmarks.http_server ours 8001
"""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.designs import Design
from benchmarks.environment_note import spread

REQUEST = b"GET /items/1 HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\n\r\n"
START_SECONDS = 30.0


def measured(
    design: Design, url: str, variables: Mapping[str, str], clients: int, seconds: float
) -> dict[str, Any]:
    """Answers a second to so many clients, and their times."""
    with _running(design, url, variables) as port:
        asyncio.run(_asked(port, clients, 0.3))
        taken, milliseconds, failed = asyncio.run(_asked(port, clients, seconds))
    per_second = round((len(milliseconds) - failed) / taken, 1)
    return {"per_second": per_second, "failed": round(failed / len(milliseconds), 4), **spread(milliseconds)}


@contextmanager
def _running(design: Design, url: str, variables: Mapping[str, str]) -> Iterator[int]:
    from lib.onetrip.testing.databases import free_port  # noqa: PLC0415  (for this side only)
    from tests.onetrip.environment import clean_environment  # noqa: PLC0415

    port = free_port()
    environment = clean_environment(
        DATABASE_URL=url, JWT_SECRET_KEY="k7Qw2mZp9Xv4Tn8Rb1Yc6Hs3Jd5Lf0Ga", VERCEL="1", **variables
    )
    command = [sys.executable, "-m", "benchmarks.http_server", design.module, str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            asyncio.run(_reachable(port))
            yield port
        finally:
            process.terminate()


async def _reachable(port: int) -> None:
    for _ in range(int(START_SECONDS / 0.1)):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError("the HTTP server did not start")


async def _asked(port: int, clients: int, seconds: float) -> tuple[float, list[float], int]:
    """The seconds, the milliseconds of each answer, and how many failed; connecting is not counted."""
    milliseconds: list[float] = []
    failed = 0
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]
    started = time.perf_counter()

    async def keep_asking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal failed
        while (begin := time.perf_counter()) < started + seconds or not milliseconds:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            milliseconds.append((time.perf_counter() - begin) * 1000)
            failed += not head.startswith(b"HTTP/1.1 2")
        writer.close()

    await asyncio.gather(*(keep_asking(*each) for each in opened))
    return time.perf_counter() - started, milliseconds, failed


def main() -> None:
    """Serve a design; what it logs is discarded."""
    import uvicorn  # noqa: PLC0415  (for the server's side only)

    package = importlib.import_module(f"benchmarks.peers.{sys.argv[1]}")
    with Path(os.devnull).open("w") as sys.stdout:
        app = package.create_app(os.environ["DATABASE_URL"])
        uvicorn.run(app, port=int(sys.argv[2]), log_level="critical", access_log=False)


if __name__ == "__main__":
    main()
