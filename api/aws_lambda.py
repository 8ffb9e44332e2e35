"""Lambda's door: `handler` answers API Gateway (REST and HTTP), ALB and Function URL events, and pings."""

import asyncio
from typing import Any

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES, HANDLERS

from api.index import app
from lib.engine import database
from lib.lifecycle import close_before_snapshot, close_on_termination

# Mangum wants a loop to exist, and Python no longer makes one by itself.
asyncio.set_event_loop(asyncio.new_event_loop())

MAX_KEYS_SHOWN = 8


class UnknownEventError(Exception):
    """The event is no HTTP request and no ping.

    Raised rather than answered: a queue that was connected by mistake must not take it for done.
    """


class WarmUp:
    """A scheduler's ping, which keeps an instance warm: the application says that it is alive.

    The whole way is walked but for the database; what goes back is no HTTP response.
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
    def infer(cls, event: Any, _context: object, _config: object) -> bool:
        """Whether EventBridge's schedule sent it, or whoever says `{"warm-up": true}`."""
        return isinstance(event, dict) and (event.get("source") == "aws.events" or "warm-up" in event)

    def __call__(self, response: Any) -> dict[str, Any]:
        """Answer in the ping's own shape."""
        return {"warm": response["status"] == 200}  # noqa: PLR2004  (OK)


class Unknown:
    """What no handler knows: refused with a sentence about what was expected."""

    @classmethod
    def infer(cls, event: Any, context: Any, config: Any) -> bool:
        """Never: let the known ones have it, or raise."""
        if isinstance(event, dict) and any(known.infer(event, context, config) for known in HANDLERS):
            return False
        raise UnknownEventError(
            f"This function answers HTTP events (API Gateway, load balancer, Function URL) and pings such as "
            f'{{"warm-up": true}}. This event is neither: it is {_described(event)}. '
            "Was it meant for another function?"
        )


def _described(event: object) -> str:
    """The keys of an event, for its values may be anybody's."""
    if not isinstance(event, dict):
        return f"a {type(event).__name__}"
    keys = ", ".join(str(key)[:40] for key in list(event)[:MAX_KEYS_SHOWN])
    return f"an object with the keys {keys}" if keys else "an empty object"


handler = Mangum(
    app,
    # The process owns the engine; a lifespan would open and close it on every invocation.
    lifespan="off",
    custom_handlers=[WarmUp, Unknown],
    # What is not listed is sent in base64.
    text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, "application/problem+json"],
)

close_before_snapshot(database())
if database().settings.platform.name != "server":
    close_on_termination(database())
