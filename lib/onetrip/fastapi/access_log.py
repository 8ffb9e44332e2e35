"""One log line for each request, on Lambda its metrics too, and what its answer tells of its time."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from ..aws.cloudwatch import metrics_of
from ..observability.request_stats import RequestStats
from ..settings.settings import Settings
from .recent_requests import RecentRequest, RecentRequests

ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:=+/-]{1,128}")
_DIGITS = 6
# Requests that look at this process are not its work.
_WATCHING = ("/status", "/db/pool-status")

logger = logging.getLogger(__name__)


class AccessLog:
    """Reports each request and its cost: to the log, and to the list of the last requests."""

    def __init__(self, settings: Settings, recent: RecentRequests) -> None:
        self._recent = recent
        # Named on AWS alone, where the log's lines are metrics too.
        self._function = settings.platform.function

    def write(
        self, stats: RequestStats, status: int | None, *, is_first: bool, error: str | None = None
    ) -> None:
        """Note a request that is over; `status` is None if it had no answer, `error` came after it."""
        route = stats.find_route()
        seconds = stats.seconds
        watches = (route or "").startswith(_WATCHING)
        if not watches:
            self._remember(stats, route, 0 if error else status, seconds)
        # A page that stands open asks every two seconds; who is refused there is told all the same.
        level = logging.DEBUG if watches and status == HTTPStatus.OK else logging.INFO
        if not logger.isEnabledFor(level):
            return
        fields = {
            "method": stats.method,
            "route": route,
            "status": status,
            "error": error,
            "duration_seconds": round(seconds, _DIGITS),
            "db_seconds": round(stats.db_seconds, _DIGITS),
            "pool_seconds": round(stats.pool_seconds, _DIGITS),
            "connect_seconds": round(stats.connect_seconds, _DIGITS),
            "round_trips": stats.round_trips,
            "connections": stats.connections,
            "tries": stats.tries,
            "cold_start": is_first,
        }
        if self._function:
            fields |= metrics_of(fields, self._function)
        logger.log(level, "request", extra={"fields": fields})

    def _remember(self, stats: RequestStats, route: str | None, status: int | None, seconds: float) -> None:
        self._recent.add(
            RecentRequest(
                at=time.time(),
                method=stats.method or "",
                route=route or "(no route)",
                status=status or 0,
                seconds=seconds,
                db_seconds=stats.db_seconds,
                round_trips=stats.round_trips,
            )
        )


def platform_ids(scope: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    """The names by which the platform's own logs know this request."""
    if context := scope.get("aws.context"):
        request_id = getattr(context, "aws_request_id", None)
        return {"lambda_request_id": str(request_id)} if request_id else {}
    if settings.platform.name == "vercel" and (given := header(scope, b"x-vercel-id")):
        return {"vercel_id": given} if ACCEPTABLE_ID.fullmatch(given) else {}
    return {}


def route_of(scope: Mapping[str, Any]) -> str | None:
    """The template of the route that was found, such as `/api/v1/tasks/{task_id}`; never the path."""
    # A router that was included knows its routes' prefix; the route alone does not.
    within = scope.get("fastapi") or {}
    route = within.get("effective_route_context") or scope.get("route")
    return getattr(route, "path_format", None) or getattr(route, "path", None)


def header(scope: Mapping[str, Any], name: bytes) -> str:
    """The first header of that name, empty if there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"").decode("latin-1")


def server_timing(stats: RequestStats) -> str:
    """The Server-Timing header: milliseconds so far, as that header has them."""
    spans = {
        "total": stats.seconds,
        "db": stats.db_seconds,
        "pool": stats.pool_seconds,
        "connect": stats.connect_seconds,
    }
    parts = [f"{name};dur={seconds * 1000:.3f}" for name, seconds in spans.items()]
    parts[1] += f';desc="round trips: {stats.round_trips}"'
    return ", ".join(parts)
