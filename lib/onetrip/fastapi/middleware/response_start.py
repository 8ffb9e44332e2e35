"""The start of a response, held back while it may still turn out to be another one.

A stream that fails before its first part becomes an error status, where an empty 200 would follow
otherwise. The stock answer to an unhandled error, as a mounted application sends it before it raises,
gives way to a problem.
"""

from __future__ import annotations

import asyncio

from starlette.types import Message, Send

# A stream of events has its status and headers sent after this time, though no event has come yet: its
# client waits for them, where others have no use for them before the first part.
EVENTS_BEGIN_SECONDS = 0.5
# Length and type of that stock answer, "Internal Server Error".
_STOCK_ERROR = (b"21", b"text/plain")


class ResponseStart:
    """Sends what it is called with, the start together with what follows."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self._held: list[Message] = []
        self._beginning: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_stock_error = False

    async def __call__(self, message: Message) -> None:
        if self.begun:
            if self._beginning:
                await self._beginning
            await self._send(message)
            return
        is_start = message["type"] == "http.response.start"
        if is_start and self._may_begin(message):
            self.begun = True
            await self._send(message)
            return
        self._held.append(message)
        if not is_start and not self._is_stock_error:
            await self.finish()

    async def finish(self) -> None:
        """Send what is held back: nothing else will take its place."""
        if self._timer:
            self._timer.cancel()
        while self._held:
            self.begun = True
            await self._send(self._held.pop(0))

    def discard(self) -> None:
        """Forget what is held back."""
        if self._timer:
            self._timer.cancel()
        self._held.clear()

    def _may_begin(self, message: Message) -> bool:
        """Return True if nothing will take the place of this start; events have it sent by a timer."""
        length, media_type = None, b""
        for name, value in message["headers"]:
            if name == b"content-length":
                length = value
            elif name == b"content-type":
                media_type = value.partition(b";")[0]
        self._is_stock_error = message["status"] == 500 and (length, media_type) == _STOCK_ERROR  # noqa: PLR2004
        if length is None and media_type == b"text/event-stream":
            self._timer = asyncio.get_running_loop().call_later(EVENTS_BEGIN_SECONDS, self._begin)
        return length is not None and not self._is_stock_error

    def _begin(self) -> None:
        self.begun = True
        self._beginning = asyncio.get_running_loop().create_task(self.finish())
