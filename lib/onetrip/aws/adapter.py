"""Lambda's handler for an ASGI application: HTTP events in all their shapes, pings, and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.handlers import ALB, APIGateway, HTTPGateway
from mangum.types import ASGI, LambdaConfig, Response, Scope

from .events import Kind, kind_of, max_response_bytes, mount_of
from .http_api import HttpApiRequest


def _once(handler: Any) -> Any:
    """Mangum's handler of an event, which would make the scope again to answer."""
    return type(handler.__name__, (handler,), {"scope": cached_property(handler.scope.fget)})


_HANDLERS: Mapping[Kind, Any] = {
    "load-balancer": _once(ALB),
    "payload-1": _once(HTTPGateway),
    "rest-api": _once(APIGateway),
}
# Types that are not listed are sent in base64.
_TEXT_TYPES = [*DEFAULT_TEXT_MIME_TYPES, "application/problem+json", "application/jsonl"]
# Mangum takes what follows the host's colon for a number, and this header for one.
_PLAIN = {"host": re.compile(r"[^:]*(:[0-9]{1,5})?"), "x-forwarded-port": re.compile(r"[0-9]{1,5}")}
_ROOM_FOR_HEADERS = 16 * 2**10


class _Ping:
    """A scheduler's ping, which keeps an instance warm: the application says that it lives.

    A request is served for it, of which no HTTP goes back, so that all is warm but the database.
    """

    body = b""

    def __init__(self, event: Any, context: Any) -> None:
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

    def __call__(self, response: Response) -> dict[str, Any]:
        """Answer in the ping's own shape."""
        return {"warm": response["status"] == HTTPStatus.OK}


class _Request:
    """An HTTP event as an ASGI scope under its prefix, and the response in the event's shape."""

    def __init__(self, kind: Kind, event: Any, context: Any, config: LambdaConfig) -> None:
        odd = list(_odd_headers(event))
        self._respond = _HANDLERS[kind](_without(event, odd), context, config)
        self.body: bytes = self._respond.body
        scope = self._respond.scope
        prefix, root_path = mount_of(kind, event)
        self.scope: Scope = {
            **scope,
            "aws.event": event,
            "root_path": root_path,
            "path": root_path + (_encodable(scope["path"])[len(unquote(prefix)) :] or "/"),
            "headers": [*scope["headers"], *([name.lower().encode(), value.encode()] for name, value in odd)],
        }

    def __call__(self, response: Response) -> dict[str, Any]:
        """Answer in the event's shape."""
        # Mangum takes bytes for UTF-8, and headers are Latin-1.
        headers = [[name, value.decode("latin-1").encode()] for name, value in response["headers"]]
        answer: dict[str, Any] = self._respond({**response, "headers": headers})
        if not any(name.lower() == b"content-type" for name, _ in response["headers"]):
            # Mangum takes a response without a type, such as a 204, for JSON.
            (answer.get("headers") or {}).pop("content-type", None)
        return answer


class _Adapter(Mangum):
    """Mangum, with each event classified once."""

    def infer(self, event: Any, context: Any) -> Any:
        """Take the event for what it is; raise `UnknownEventError` for one that is no request."""
        kind = kind_of(event)
        if kind == "ping":
            return _Ping(event, context)
        request: HttpApiRequest | _Request
        if kind == "payload-2":
            request = HttpApiRequest(event, context, self.config)
        else:
            request = _Request(kind, event, context, self.config)
        # The response is handed over as a whole, and up to a size.
        request.scope["extensions"] = {"onetrip.buffered": _BUFFERED[kind]}
        return request

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Answer the event; text that cannot be encoded, half of a surrogate pair, becomes question marks."""
        try:
            return super().__call__(event, context)
        except UnicodeEncodeError:
            # Raised before the application saw anything: its own errors do not come here.
            return super().__call__(_encodable(event), context)


def adapted(app: ASGI) -> Mangum:
    """The handler by which `app` answers Lambda's events."""
    # Mangum wants a loop to exist, and Python no longer makes one by itself.
    asyncio.set_event_loop(asyncio.new_event_loop())
    # The process owns the engine; a lifespan would open and close it on every invocation.
    return _Adapter(app, lifespan="off", text_mime_types=_TEXT_TYPES)


def _fits(max_bytes: int, content_type: str, body: bytes) -> bool:
    """Return True if a body fits into a response of `max_bytes`, encoded as it is sent."""
    room = max_bytes - _ROOM_FOR_HEADERS
    # JSON writes no byte with more than six.
    if 6 * len(body) <= room:
        return True
    if any(text in content_type for text in _TEXT_TYPES):
        with suppress(UnicodeDecodeError):
            return len(json.dumps(body.decode(), ensure_ascii=False).encode()) <= room
    return 4 * len(body) <= 3 * room


def _odd_headers(event: Any) -> Iterator[tuple[str, str]]:
    """Headers that Mangum fails on: clients may send any Host, such as an IPv6 address."""
    lists = event.get("multiValueHeaders") or {}
    given = lists or {name: [value] for name, value in (event.get("headers") or {}).items()}
    for name, values in given.items():
        plain = _PLAIN.get(name.lower())
        for value in values or ():
            if plain and isinstance(value, str) and not plain.fullmatch(value):
                yield name, value


def _without(event: Any, odd: list[tuple[str, str]]) -> Any:
    """The event without these headers."""
    if not odd:
        return event
    names = {name for name, _ in odd}
    kept = {
        group: {name: value for name, value in (event[group] or {}).items() if name not in names}
        for group in ("headers", "multiValueHeaders")
        if group in event
    }
    return {**event, **kept}


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list):
        return [_encodable(part) for part in value]
    if isinstance(value, dict):
        return {_encodable(name): _encodable(part) for name, part in value.items()}
    return value


_BUFFERED = {kind: {"fits": partial(_fits, max_response_bytes(kind))} for kind in (*_HANDLERS, "payload-2")}
