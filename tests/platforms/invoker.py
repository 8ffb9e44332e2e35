"""A function's process: reads events from stdin, a JSON line each, and writes what `handler` returned.

It stands where Lambda's runtime does: one process, one event at a time, on the main thread.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from mangum.types import Receive, Send

from api.aws_lambda import handler
from api.index import app
from tests.onetrip.events import Context
from tests.platforms.probes import router


def main() -> None:
    """Answer every line, and say which threads and ASGI scopes there were so far, and what is open."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # The application's output is its log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    app.include_router(router)
    started, scopes = _threads_started(), _scopes_served()
    for line in sys.stdin:
        response = handler(json.loads(line), Context())  # type: ignore[arg-type]  # a runtime's own class
        descriptors = len(list(Path("/dev/fd").iterdir()))
        answer = {"response": response, "threads": started, "scopes": scopes, "descriptors": descriptors}
        print(json.dumps(answer), file=answers, flush=True)


def _scopes_served() -> list[str]:
    """The kinds of ASGI scope that the adapter opens from now on."""
    scopes: list[str] = []
    adapted = handler.app

    async def noted(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        scopes.append(scope["type"])
        await adapted(scope, receive, send)

    handler.app = noted
    return scopes


def _threads_started() -> list[str]:
    """The names of the threads that are started from now on."""
    started: list[str] = []
    start = threading.Thread.start

    def noted(self: threading.Thread) -> None:
        started.append(self.name)
        start(self)

    threading.Thread.start = noted  # type: ignore[method-assign]  # nothing else sees a short-lived thread
    return started


if __name__ == "__main__":
    main()
