"""The application behind uvicorn, in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from lib.onetrip.testing.databases import free_port
from tests.onetrip.network import until


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve `app` on a port of its own for the block; the block gets its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
