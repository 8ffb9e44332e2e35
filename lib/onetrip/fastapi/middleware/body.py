"""The body of a request: bounded, kept for another try, and whole before a response where that is needed."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..access_log import header


class Body:
    """Receives the request's messages, again from the first for another try; refuses a longer body (413).

    It is refused where a route reads it, by its stated length or by what arrives, so that the refusal has the
    shape of every other error: FastAPI's own `max_body_size` answers in plain text.
    """

    __slots__ = ("_arrived", "_max_bytes", "_receive", "_scope", "_seen", "waits_for_client")

    def __init__(self, receive: Receive, scope: Scope, max_bytes: int) -> None:
        self._receive = receive
        self._scope = scope
        self._max_bytes = max_bytes
        self._arrived = 0
        self._seen: list[Message] = []
        # True while the client has not sent all of the request, and nothing else is waited for.
        self.waits_for_client = False

    def again(self) -> Receive:
        """A receiver that starts with what was received before."""
        position = 0

        async def receive() -> Message:
            nonlocal position
            if position == len(self._seen):
                self._seen.append(await self._next())
            position += 1
            return self._seen[position - 1]

        return receive

    async def _next(self) -> Message:
        self._refuse_beyond(_stated_length(self._scope))
        self.waits_for_client = not any(not message.get("more_body", False) for message in self._seen)
        message = await self._receive()
        self.waits_for_client = False
        self._arrived += len(message.get("body", b""))
        self._refuse_beyond(self._arrived)
        return message

    def _refuse_beyond(self, length: int) -> None:
        if length > self._max_bytes:
            raise HTTPException(413)


def _stated_length(scope: Scope) -> int:
    """The Content-Length, 0 if there is none; servers have checked that it is a number."""
    stated = header(scope, b"content-length") or "0"
    # Longer than any number of bytes that there can be, and than Python converts.
    return int(stated) if stated.isdecimal() and len(stated) < 20 else 2**63  # noqa: PLR2004


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
