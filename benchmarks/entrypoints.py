"""Single requests through an entrypoint: ASGI, as on Vercel and uvicorn, or Lambda's events."""

from __future__ import annotations

import json
from typing import Any, Protocol

Asked = tuple[str, str, dict[str, Any] | None]


class Entrypoint(Protocol):
    """Takes a method, a path and a body, and returns the answer's status."""

    async def __call__(self, asked: Asked) -> int: ...


class AsgiEntrypoint:
    """The ASGI server's side of a request."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, asked: Asked) -> int:
        """Send a request and return the status of its answer."""
        method, path, body = asked
        text = json.dumps(body).encode() if body is not None else b""
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": text, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        try:
            await self._app(_scope(method, path, len(text)), receive, send)
        except Exception:  # noqa: BLE001  (as a server does)
            # An application that has answered may raise afterwards.
            statuses.append(500)
        return statuses[0]


class LambdaContext:
    """The context of a Lambda invocation."""

    aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

    def get_remaining_time_in_millis(self) -> int:
        """Return half a minute, as behind API Gateway."""
        return 29_000


def invoke(handler: Any, asked: Asked) -> int:
    """Invoke a handler with an HTTP API's event and return the status of its answer."""
    method, path, body = asked
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "api.example.com", "accept": "*/*", "content-type": "application/json"},
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7"},
            "stage": "$default",
        },
        "body": json.dumps(body) if body is not None else "",
        "isBase64Encoded": False,
    }
    status: int = handler(event, LambdaContext())["statusCode"]
    return status


def _scope(method: str, path: str, length: int) -> dict[str, Any]:
    headers = [(b"host", b"api.example.com"), (b"accept", b"*/*")]
    if length:
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("203.0.113.7", 51413),
        "server": ("api.example.com", 443),
        "state": {},
    }
