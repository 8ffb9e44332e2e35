"""The request path around the routes: id, deadline, one connection, another try after a conflict, an answer.

Two layers. The outer one stands outside of every other middleware, so that whatever asks the database
belongs to the request. The inner one stands where it was added: what it answers passes the application's
other middleware, such as CORS.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...attempt import Attempt, attempt
from ...deadlines import holding
from ...errors import DeadlineExceededError
from ...observability.json_log import mark_logged
from ...observability.request_stats import RequestStats, collecting, current_stats
from ...pool.unit import one_try, one_unit, serving
from ...process import process
from ...retries import UNIT_ATTEMPTS, may_repeat_unit, pauses
from ..access_log import ACCEPTABLE_ID, AccessLog, header, platform_ids, route_of, server_timing
from ..concurrency import runs_inline
from ..operators import may_see
from ..problem_details import answer_to
from ..services import SCOPE_KEY, Services
from .body import Body
from .response_start import ResponseStart
from .time_limit import BACKSTOP_SECONDS, LoopTimer, TimeLimit

_TIME_LIMIT = "onetrip.time_limit"
_OURS = {b"x-request-id", b"x-content-type-options", b"x-process-time"}
_NO_STORE, _NO_SNIFF = (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")

logger = logging.getLogger(__name__)


class RequestMiddleware:
    """Gives every request its id, its deadline and its one connection, and logs it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        services: Services,
        access_log: AccessLog,
        served: Callable[[], None],
    ) -> None:
        self._app = app
        self._services = services
        self._settings = services.settings
        self._access_log = access_log
        self._served = served
        self._platform = services.settings.platform
        self._runs_inline = self._platform.serves_one_request_at_a_time
        self._tells_all = not services.settings.is_production
        self._timer: LoopTimer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        is_mounted, scope[SCOPE_KEY] = SCOPE_KEY in scope, self._services
        scope["state"] = {**scope.get("state", {}), "request_id": _request_id(scope)}
        serving.set(self._services.database)
        runs_inline.set(self._runs_inline)
        with one_unit(is_mounted=is_mounted) as unit:
            try:
                if scope["type"] == "http":
                    await self._serve(scope, receive, send)
                else:
                    await self._app(scope, receive, send)
            finally:
                if unit and unit.forgotten:
                    from .forgotten import give_back  # noqa: PLC0415  (with SQLAlchemy, which came before)

                    await give_back(unit)
        database = self._services.database
        if self._runs_inline and unit and database and database.limiter.used and _TIME_LIMIT in scope:
            from .forgotten import stand_down  # noqa: PLC0415  (the same)

            # No connection is in use when the process is frozen.
            await stand_down(database.limiter, scope[_TIME_LIMIT].rest_seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        process.cold_start.requests += 1
        is_first = process.cold_start.requests == 1
        request_id = scope["state"]["request_id"]
        ids = {"request_id": request_id, **platform_ids(scope, self._platform)}
        stats = RequestStats(ids, scope["method"], scope["path"])
        limit = scope[_TIME_LIMIT] = TimeLimit(self._settings, scope, self._loop_timer())
        answer = _Answer(send, request_id, stats, limit, tells_time=self._tells_time(scope))
        # After a long body, asyncio serves the connection's next request in the context of that one.
        with collecting(stats), holding(limit.until):
            try:
                with limit.enforced(2 * BACKSTOP_SECONDS - 0.1):
                    await self._app(scope, receive, answer)
            except Exception as error:
                if answer.status:
                    answer.broke_off(error)
                    raise
                response = await answer_to(error, scope, self._settings)
                await response(scope, receive, answer)
            finally:
                self._access_log.write(stats, answer.status, is_first=is_first, error=answer.error)
                self._served()

    def _loop_timer(self) -> LoopTimer:
        loop, timer = asyncio.get_running_loop(), self._timer
        if timer is None or timer.loop is not loop:
            timer = self._timer = LoopTimer(loop)
        return timer

    def _tells_time(self, scope: Scope) -> bool:
        if self._tells_all or self._settings.ops_token is None:
            return self._tells_all
        return may_see(self._settings, header(scope, b"authorization"))


class AnswerMiddleware:
    """Answers every request by its deadline: by a route, tried again where that is safe, or by a problem."""

    def __init__(self, app: ASGIApp, *, services: Services, max_body_bytes: int) -> None:
        self._app = app
        self._settings = services.settings
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit: TimeLimit | None = scope.get(_TIME_LIMIT)
        if scope["type"] != "http" or limit is None:
            await self._app(scope, receive, send)
            return
        start, body = ResponseStart(send), Body(receive, scope, self._max_body_bytes)
        try:
            with limit.enforced(BACKSTOP_SECONDS):
                await self._answered(scope, body, start)
        except Exception as error:
            if start.begun:
                raise
            start.discard()
            if isinstance(error, DeadlineExceededError) and body.waits_for_client:
                error = HTTPException(408, "The request did not arrive in time.")
            response = await answer_to(error, scope, self._settings)
            await response(scope, receive, send)

    async def _answered(self, scope: Scope, body: Body, start: ResponseStart) -> None:
        """Run the routes, again after a conflict or a lost connection rolled their work back."""
        left = islice(pauses(), UNIT_ATTEMPTS - 1)
        while True:
            with attempt() as tried, one_try() as own:
                # The routes write into their scope, so each try has its own.
                routed = {**scope, "state": dict(scope["state"])}
                if stats := current_stats():
                    stats.find_route = partial(route_of, routed)
                try:
                    await self._app(routed, body.again(), start)
                    return await start.finish()
                except Exception as error:
                    pause = next(left, None) if _may_repeat(error, tried, start) else None
                    if pause is None or not own.withdraw():
                        raise
            start.discard()
            if stats:
                stats.tries += 1
            await asyncio.sleep(pause)


def _may_repeat(error: Exception, tried: Attempt, start: ResponseStart) -> bool:
    return not start.begun and not tried.committed and may_repeat_unit(error)


def outermost(app: FastAPI, *middleware: Any) -> None:
    """Keep `middleware`, in this order, outside of all others, whenever they are added."""
    build = app.build_middleware_stack
    order = {kind: number for number, kind in enumerate(middleware)}

    def build_in_order() -> ASGIApp:
        app.user_middleware.sort(key=lambda entry: order.get(entry.cls, len(order)))
        return build()

    app.build_middleware_stack = build_in_order  # type: ignore[method-assign]


class _Answer:
    """Sends the answer with the request's id and time, and knows its status once it has begun."""

    def __init__(
        self, send: Send, request_id: str, stats: RequestStats, limit: TimeLimit, *, tells_time: bool
    ) -> None:
        self._send = send
        self._request_id = request_id
        self._stats = stats
        self._limit = limit
        self._tells_time = tells_time
        self.status: int | None = None
        # The error that came once it had begun: it is too late for another answer.
        self.error: str | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._headers(message.get("headers", ()))
            # What has begun has its time, or a problem that is late already would be cut off.
            self._limit.part_sent(is_last=False)
        await self._send(message)
        if message["type"] == "http.response.body":
            self._limit.part_sent(is_last=not message.get("more_body", False))

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The response's own headers, and ours in place of those of the same name."""
        headers, is_cached = [], False
        for pair in given:
            name = pair[0].lower()
            if name not in _OURS:
                headers.append(pair)
            if name == b"cache-control":
                is_cached = True
        if not is_cached:
            # Answers hold people's data, or none at all; a route that knows better says so itself.
            headers.append(_NO_STORE)
        headers += (
            (b"x-request-id", self._request_id.encode("latin-1")),
            _NO_SNIFF,
            (b"x-process-time", b"%.6f" % self._stats.seconds),
        )
        if self._tells_time:
            headers.append((b"server-timing", server_timing(self._stats).encode()))
        return headers

    def broke_off(self, error: Exception) -> None:
        """Tell of an error that came too late for another answer: in a stream, in a background task."""
        self.error = type(error).__name__
        logger.error("an error after the answer had begun", exc_info=error)
        mark_logged(error)


def _request_id(scope: Mapping[str, Any]) -> str:
    """The caller's id if it is short and plain, else a new one."""
    given = header(scope, b"x-request-id")
    return given if given and ACCEPTABLE_ID.fullmatch(given) else os.urandom(16).hex()
