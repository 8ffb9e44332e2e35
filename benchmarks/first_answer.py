"""Starts an application, makes one request, and writes the status of its answer to stdout.

    python benchmarks/first_answer.py api.index:app /api/v1/users/1 [token]

After the status comes its peak memory in kilobytes. `create_app` is called with
DATABASE_URL. This file imports nothing that the application would not import.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

# The application's log lines are discarded.
ANSWERS = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


async def ask(app: Any, path: str, token: str) -> None:
    """Run the application's startup and one GET, as a server does."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"api.example.com"), (b"authorization", f"Bearer {token}".encode())],
        "client": ("203.0.113.7", 51413),
        "server": ("api.example.com", 443),
        "state": {},
    }
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)
        say(statuses[0])


def invoke(handler: Any, path: str, token: str) -> None:
    """Invoke the handler with an HTTP API's event, as Lambda's runtime does."""

    class Context:
        aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

        def get_remaining_time_in_millis(self) -> int:
            return 29_000

    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "api.example.com", "authorization": f"Bearer {token}"},
        "requestContext": {
            "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7"},
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }
    say(handler(event, Context())["statusCode"])


def say(status: int) -> None:
    """Report the status to the measuring process, and exit at once."""
    os.write(ANSWERS, b"%d\n" % status)
    peak = open("/proc/self/status").read().partition("VmHWM:")[2].split()  # noqa: PTH123, SIM115
    os.write(ANSWERS, peak[0].encode() if peak else b"0")
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  (`pathlib` takes time)
    module, _, name = sys.argv[1].partition(":")
    entrypoint = getattr(import_module(module), name)
    path, token = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""
    if name == "handler":
        invoke(entrypoint, path, token)
    else:
        import asyncio

        asyncio.run(
            ask(entrypoint(os.environ["DATABASE_URL"]) if name == "create_app" else entrypoint, path, token)
        )
