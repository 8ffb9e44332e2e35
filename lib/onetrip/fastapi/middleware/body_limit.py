"""No body is read beyond a bound, and the refusal has the shape of every other error.

FastAPI's own `max_body_size` stands outside our middleware and answers in plain text.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Refuses a longer body with 413 where a route reads it, by its stated length or by what arrives."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = 0

        async def bounded() -> Message:
            nonlocal arrived
            _refuse_beyond(self._max_bytes, _stated_length(scope))
            message = await receive()
            arrived += len(message.get("body", b""))
            _refuse_beyond(self._max_bytes, arrived)
            return message

        await self._app(scope, bounded, send)


def _refuse_beyond(max_bytes: int, length: int) -> None:
    if length > max_bytes:
        raise HTTPException(413)


def _stated_length(scope: Scope) -> int:
    """The Content-Length, 0 if there is none; servers have checked that it is a number."""
    stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    # Longer than any number of bytes that there can be, and than Python converts.
    return int(stated) if stated.isdigit() and len(stated) < 20 else 2**63  # noqa: PLR2004


class WholeBody:
    """Reads a request's body to its end before the response begins.

    A half-duplex proxy waits to hand over the rest, while the client of a refused upload waits for it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_read = False

        async def noted() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body")
            return message

        async def after_the_body(message: Message) -> None:
            while message["type"] == "http.response.start" and not is_read:
                await noted()
            await send(message)

        await self._app(scope, noted, after_the_body)
