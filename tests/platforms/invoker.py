"""A function's process: reads events from stdin, a JSON line each, and writes what `handler` returned.

It stands where Lambda's runtime does: one process, one event at a time, on the main thread.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mangum.types import Receive, Send

from api.aws_lambda import handler
from api.index import app
from tests.platforms.probes import router


@dataclass
class Context:
    """What the runtime tells about an invocation."""

    function_name: str = "api"
    function_version: str = "$LATEST"
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:api"
    memory_limit_in_mb: str = "1024"
    aws_request_id: str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    log_group_name: str = "/aws/lambda/api"
    log_stream_name: str = "2026/11/21/[$LATEST]0123456789abcdef"
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the platform ends the invocation."""
        return 29_000


def main() -> None:
    """Answer every line, and say which threads and ASGI scopes there were so far, and what is open."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # What the application prints is its log.
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
