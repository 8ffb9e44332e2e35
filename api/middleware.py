"""What happens around every request: its id, and an answer even to an error nobody handled."""

from __future__ import annotations

import re
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.platform_route import blocks_nobody
from api.problems import answer_to
from lib.cold_start import cold_start

_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._:=+/-]{1,128}")


class RequestMiddleware:
    """Gives each request an id, and turns an error that escapes the routes into a problem."""

    def __init__(self, app: ASGIApp, *, one_at_a_time: bool) -> None:
        self._app = app
        self._one_at_a_time = one_at_a_time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        blocks_nobody.set(self._one_at_a_time)
        cold_start.requests += 1
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if started:
                raise
            await answer_to(error, scope)(scope, receive, send_with_id)


def _request_id(scope: Scope) -> str:
    """The caller's id if it is short and plain, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode("ascii") if _ACCEPTABLE_ID.fullmatch(given) else uuid4().hex
