"""What happens around every request: its id, its deadline, another try after a conflict, an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..cold_start import cold_start
from ..deadlines import Deadline, deadline
from ..errors import DeadlineExceededError
from ..observability.json_log import told
from ..observability.request_stats import Tally, counted
from ..platform import seconds_left
from ..retries import UNIT_ATTEMPTS, may_repeat_unit, pauses
from ..settings.settings import Settings
from ..sqlstate import Kind, classify
from .access_log import ACCEPTABLE_ID, AccessLog, header, platform_ids, route_of, server_timing
from .concurrency import blocks_nobody
from .operators import may_see
from .problem_details import answer_to

# What is kept of the platform's time for sending the answer.
ANSWER_RESERVE_SECONDS = 0.5
# How much later than the database's waits everything else is ended, so that they end first: theirs
# is the better answer, and a connection that ended its wait by itself can be closed in peace.
_BACKSTOP_SECONDS = 0.25

logger = logging.getLogger(__name__)


class RequestMiddleware:
    """Answers every request by its deadline, whatever escapes the routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        access_log: AccessLog,
        served: Callable[[], None],
    ) -> None:
        self._app = app
        self._settings = settings
        self._access_log = access_log
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        blocks_nobody.set(self._settings.platform.serves_one_request_at_a_time)
        cold_start.requests += 1
        is_first = cold_start.requests == 1
        ids = {"request_id": request_id, **platform_ids(scope, self._settings)}
        tally = Tally(ids, scope["method"])
        answer = _Answer(send, request_id, tally, tells_time=self._tells_time(scope))
        # After a long body, asyncio serves the connection's next request in the context of that one.
        with counted(tally), deadline(self._seconds(scope), anew=True) as until:
            try:
                async with _backstop(until):
                    await self._answered(scope, _Replay(receive), answer, until)
            except Exception as error:
                if answer.status:
                    answer.broke_off(error)
                    raise
                await answer_to(error, scope)(scope, receive, answer)
            finally:
                self._access_log.write(tally, answer.status, is_first=is_first, error=answer.error)
                self._served()

    async def _answered(self, scope: Scope, receive: _Replay, answer: _Answer, until: Deadline) -> None:
        """Run the routes, again after a conflict or a lost connection rolled their work back."""
        for pause in pauses():
            try:
                return await self._tried(scope, receive, answer)
            except Exception as error:
                if answer.status or answer.tally.tries == UNIT_ATTEMPTS or not may_repeat_unit(error):
                    raise
            answer.tally.tries += 1
            await asyncio.sleep(min(pause, until.seconds_left))
        return await self._tried(scope, receive, answer)

    async def _tried(self, scope: Scope, receive: _Replay, answer: _Answer) -> None:
        # The routes write into their scope, so each try has its own.
        own = {**scope, "state": dict(scope["state"])}
        answer.tally.find_route = partial(route_of, own)
        await self._app(own, receive.again(), answer)

    def _tells_time(self, scope: Scope) -> bool:
        return may_see(self._settings, header(scope, b"authorization"))

    def _seconds(self, scope: Mapping[str, Any]) -> float:
        told = seconds_left(scope.get("aws.context"))
        if told is None:
            return self._settings.request_timeout_seconds
        wanted = self._settings.request_timeout_seconds + ANSWER_RESERVE_SECONDS
        return max(0.0, min(told, wanted) - ANSWER_RESERVE_SECONDS)


@asynccontextmanager
async def _backstop(until: Deadline) -> AsyncIterator[None]:
    """End what the database's own waits do not: a slow call elsewhere, a wait for the client."""
    try:
        async with asyncio.timeout(until.seconds_left + _BACKSTOP_SECONDS) as limit:
            yield
    except Exception as error:
        # What a route says that was cut off is of no interest, unless its database said something.
        if limit.expired() and not _tells(error):
            raise DeadlineExceededError("the request's deadline is over") from error
        raise


def _tells(error: Exception) -> bool:
    fault = classify(error)
    return fault is not None and fault.kind is not Kind.INTERNAL


class _Answer:
    """Sends the answer with the request's id and time, and knows its status once it has begun."""

    def __init__(self, send: Send, request_id: str, tally: Tally, *, tells_time: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._tells_time = tells_time
        self.tally = tally
        self.status: int | None = None
        # What went wrong once it had begun: it is too late for another.
        self.error: str | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._request_id
            # Answers hold people's data, or none at all; a route that knows better says so itself.
            headers.setdefault("Cache-Control", "no-store")
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Process-Time"] = f"{self.tally.seconds:.6f}"
            if self._tells_time:
                headers["Server-Timing"] = server_timing(self.tally)
        await self._send(message)

    def broke_off(self, error: Exception) -> None:
        """Tell of an error that came too late for another answer: in a stream, in a background task."""
        self.error = type(error).__name__
        logger.error("an error after the answer had begun", exc_info=error)
        told(error)


class _Replay:
    """Receives the request's messages, and again from the first for another try."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen: list[Message] = []

    def again(self) -> Receive:
        """A receiver that starts with what was received before."""
        position = 0

        async def receive() -> Message:
            nonlocal position
            if position == len(self._seen):
                self._seen.append(await self._receive())
            position += 1
            return self._seen[position - 1]

        return receive


def _request_id(scope: Mapping[str, Any]) -> str:
    """The caller's id if it is short and plain, else a new one."""
    given = header(scope, b"x-request-id")
    return given if ACCEPTABLE_ID.fullmatch(given) else uuid4().hex
