"""Responses as method and platform take them: HEAD without a body, and a limit where they are buffered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..problem_details import problem_response

TOO_LARGE = "The response is larger than this platform passes on. Ask for less at once."
NO_STREAM = (
    "This entrypoint hands each response over as a whole, so that it cannot serve a stream of events. "
    "Serve it by one that streams, such as Vercel or an AWS Lambda Web Function."
)
_EVENT_STREAM = "text/event-stream"
_NO_EXTENSIONS: Mapping[str, Any] = MappingProxyType({})

logger = logging.getLogger(__name__)


class _EndedError(OSError):
    """Nothing more of the response is sent: for its route as if the client were gone."""


class Head:
    """Answers HEAD wherever GET is answered, with the same headers and without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return
        bodiless = _Bodiless(send)
        method = "HEAD" if _is_served(scope) else "GET"
        try:
            await self._app({**scope, "method": method}, receive, bodiless)
        except (_EndedError, ClientDisconnect):
            if not bodiless.ended:
                raise


class _Bodiless:
    """Sends the start of a response and an empty body."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        if not self.ended:
            self.ended = True
            await self._send({"type": "http.response.body"})
        if message.get("more_body"):
            raise _EndedError


class Buffered:
    """Refuses, before it begins, a response that a server which hands them over whole cannot pass on.

    Such a server names itself by the ASGI extension `onetrip.buffered`, with what fits into a response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extension = scope.get("extensions", _NO_EXTENSIONS).get("onetrip.buffered")
        if extension is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        whole = _Whole(send, extension["fits"])
        try:
            await self._app(scope, receive, whole)
        except (_EndedError, ClientDisconnect):
            if whole.refusal is None:
                raise
        if whole.refusal:
            status, detail = whole.refusal
            logger.error("%s %s", scope["state"]["request_id"], detail)
            await problem_response(scope, status, detail=detail)(scope, receive, send)


class _Whole:
    """Holds a response back until its end, and sends it if it fits."""

    _start: Message
    _content_type: str

    def __init__(self, send: Send, fits: Callable[[str, bytes], bool]) -> None:
        self._send = send
        self._fits = fits
        self._parts: list[bytes] = []
        self.refusal: tuple[int, str] | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            self._content_type = _content_type(message)
            if self._content_type.startswith(_EVENT_STREAM):
                self._refuse(HTTPStatus.NOT_IMPLEMENTED, NO_STREAM)
        elif message["type"] == "http.response.body":
            self._parts.append(message.get("body", b""))
            if not message.get("more_body"):
                body = b"".join(self._parts)
                if not self._fits(self._content_type, body):
                    self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, TOO_LARGE)
                await self._send(self._start)
                await self._send({"type": "http.response.body", "body": body})
        else:
            await self._send(message)

    def _refuse(self, status: int, detail: str) -> None:
        self.refusal = (int(status), detail)
        raise _EndedError


def _content_type(start: Message) -> str:
    for name, value in start.get("headers", ()):
        if name == b"content-type":
            found: str = value.decode("latin-1")
            return found
    return ""


def _is_served(scope: Scope) -> bool:
    """True if a route declares HEAD itself."""
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)
