"""The start of a response, held back while it may still turn out to be another one.

A stream that fails before its first part becomes an error status, where an empty 200 would follow
otherwise. The stock answer to an unhandled error, as a mounted application sends it before it raises,
gives way to a problem.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Message, Send

# A stream of events has its status and headers sent after this time, though no event has come yet: its
# client waits for them, where others have no use for them before the first part.
EVENTS_BEGIN_SECONDS = 0.5
_STOCK_ERROR = b"Internal Server Error"


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
        self._held.append(message)
        if message["type"] == "http.response.start":
            await self._start(message)
        elif not self._is_stock_error:
            await self.finish()

    async def finish(self) -> None:
        """Send what is held back: nothing else will take its place."""
        self._stop_timer()
        self.begun = self.begun or bool(self._held)
        while self._held:
            await self._send(self._held.pop(0))

    def discard(self) -> None:
        """Forget what is held back."""
        self._stop_timer()
        self._held.clear()

    async def _start(self, message: Message) -> None:
        headers = Headers(raw=message["headers"])
        length = headers.get("content-length")
        media_type = headers.get("content-type", "").partition(";")[0]
        is_stock = message["status"] == 500 and length == str(len(_STOCK_ERROR))  # noqa: PLR2004
        self._is_stock_error = is_stock and media_type == "text/plain"
        if length is not None and not self._is_stock_error:
            await self.finish()
        elif media_type == "text/event-stream":
            self._timer = asyncio.get_running_loop().call_later(EVENTS_BEGIN_SECONDS, self._begin)

    def _begin(self) -> None:
        self.begun = True
        self._beginning = asyncio.get_running_loop().create_task(self.finish())

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
