"""Lambda's events for an ASGI application: HTTP in all its shapes, pings, and nothing else."""

import asyncio
from http import HTTPStatus
from typing import Any

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES, HANDLERS
from mangum.types import ASGI, Response

MAX_KEYS_SHOWN = 8


class UnknownEventError(Exception):
    """The event is no HTTP request and no ping.

    Raised rather than answered: a queue that was connected by mistake must not take it for done.
    """


class Ping:
    """What a scheduler sends to keep an instance warm: the application says that it lives.

    A request is served for it, of which no HTTP goes back, so that all is warm but the database.
    """

    body = b""

    def __init__(self, event: Any, context: Any, _config: object) -> None:
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https",
            "path": "/health/live",
            "raw_path": b"/health/live",
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "server": None,
            "client": None,
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "aws.event": event,
            "aws.context": context,
        }

    @classmethod
    def infer(cls, event: Any, context: Any, config: Any) -> bool:
        """Whether it is EventBridge's schedule, or `{"warm-up": true}`; raise if it is no request either."""
        if isinstance(event, dict):
            if event.get("source") == "aws.events" or "warm-up" in event:
                return True
            if any(known.infer(event, context, config) for known in HANDLERS):
                return False
        raise UnknownEventError(
            "This function answers HTTP events (API Gateway, load balancer, Function URL) and pings such as "
            f'{{"warm-up": true}}. This event is neither: it is {_described(event)}. '
            "Was it meant for another function?"
        )

    def __call__(self, response: Response) -> dict[str, Any]:
        """Answer in the ping's own shape."""
        return {"warm": response["status"] == HTTPStatus.OK}


class _Adapter(Mangum):
    """Mangum, which alone would fail on an event whose texts cannot be sent: half of a surrogate pair."""

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Answer the event; what cannot be sent in it is taken for question marks."""
        try:
            return super().__call__(event, context)
        except UnicodeEncodeError:
            # Raised before the application saw anything: what it raises itself does not come here.
            return super().__call__(_sendable(event), context)


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list):
        return [_sendable(part) for part in value]
    if isinstance(value, dict):
        return {_sendable(name): _sendable(part) for name, part in value.items()}
    return value


def _described(event: object) -> str:
    """The keys of an event, for its values may be anybody's."""
    if not isinstance(event, dict):
        return f"a {type(event).__name__}"
    keys = ", ".join(str(key)[:40] for key in list(event)[:MAX_KEYS_SHOWN])
    return f"an object with the keys {keys}" if keys else "an empty object"


def adapted(app: ASGI) -> Mangum:
    """The handler by which `app` answers Lambda's events."""
    # Mangum wants a loop to exist, and Python no longer makes one by itself.
    asyncio.set_event_loop(asyncio.new_event_loop())
    return _Adapter(
        app,
        # The process owns the engine; a lifespan would open and close it on every invocation.
        lifespan="off",
        custom_handlers=[Ping],
        # What is not listed is sent in base64.
        text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, "application/problem+json"],
    )
