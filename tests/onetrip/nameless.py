"""A program behind a name server that never answers: it prints how long each wait for it took, as JSON."""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy.exc import DBAPIError

from lib import onetrip
from lib.onetrip.connection.early import EarlyConnection
from lib.onetrip.connection.source import FixedURL
from lib.onetrip.url.database_url import DatabaseURL

NAME_SERVER = ("127.0.0.1", 53)
URL = "postgresql://ada:secret@db.example.com/app?sslmode=require"
SECONDS = 1.0
TRIES = 8
_SIOCSIFFLAGS, _UP = 0x8914, 0x1


def main() -> None:
    """Wait sync, async, many at once, and for the early connection."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        fcntl.ioctl(silent, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _UP))
        silent.bind(NAME_SERVER)
        found = {"sync": _timed(_sync), "async": _timed(lambda: asyncio.run(_async())), "early": _early()}
        with ThreadPoolExecutor(TRIES) as threads:
            found["at once"] = max(threads.map(_timed, [_sync] * TRIES))
        found["lookups"] = sum(thread.name == "resolver" for thread in threading.enumerate())
    print(json.dumps(found))


def _timed(work: Any) -> float:
    begin = time.monotonic()
    try:
        with onetrip.deadline(SECONDS):
            work()
    except DBAPIError as error:
        if "name server did not answer" not in str(error):
            raise
    return time.monotonic() - begin


def _sync() -> None:
    with onetrip.create_engine(URL).connect():
        pass


async def _async() -> None:
    async with onetrip.create_async_engine(URL).connect():
        pass


def _early() -> float:
    """The longest time for which the interpreter stood still while the early connection waited."""
    from psycopg import pq  # noqa: PLC0415  (as the early connection does)

    early, longest, last = EarlyConnection(FixedURL(DatabaseURL.parse(URL)), pq), 0.0, time.monotonic()
    end = last + SECONDS
    while last < end:
        time.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    early.close()
    return longest


if __name__ == "__main__":
    main()
