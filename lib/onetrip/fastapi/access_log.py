"""One log line for each request, on Lambda its metrics too, and what its answer tells of its time."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from ..aws.cloudwatch import metrics_of, metrics_text
from ..observability.json_log import only_output, timestamp
from ..observability.recent_requests import RecentRequest, RecentRequests
from ..observability.request_stats import RequestStats
from ..platform import Platform
from ..settings.settings import Settings

ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:=+/-]{1,128}")
_DIGITS = 6
_EVENT = "request"
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
        report = _Report(stats, route, status, error, seconds, is_first)
        wrote = only_output(logger)
        if wrote is None or not wrote(*report.line(level, self._function)):
            logger.log(level, _EVENT, extra={"fields": report.fields(self._function)})

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


class _Report(NamedTuple):
    """One request that is over: as the fields of a log record, and as the line that becomes of them."""

    stats: RequestStats
    route: str | None
    status: int | None
    error: str | None
    seconds: float
    is_first: bool

    def fields(self, function: str | None) -> dict[str, Any]:
        """The fields for any handler of the record."""
        stats = self.stats
        fields = {
            "method": stats.method,
            "route": self.route,
            "status": self.status,
            "error": self.error,
            "duration_seconds": round(self.seconds, _DIGITS),
            "db_seconds": round(stats.db_seconds, _DIGITS),
            "pool_seconds": round(stats.pool_seconds, _DIGITS),
            "connect_seconds": round(stats.connect_seconds, _DIGITS),
            "round_trips": stats.round_trips,
            "connections": stats.connections,
            "tries": stats.tries,
            "cold_start": self.is_first,
        }
        return fields | metrics_of(fields, function) if function else fields

    def line(self, level: int, function: str | None) -> tuple[str, str]:
        """The same as `JSONLine` writes it, in a tenth of the time; a test compares them.

        In two parts: the second is the same for every request and needs no cleaning.
        """
        stats, status = self.stats, self.status
        ids = ""
        for name, value in stats.ids.items():
            ids += f', "{name}": {_quoted(value)}'
        line = (
            f'{{"time": "{timestamp(time.time())}", {_kind(level)}{ids}'
            f"{_names(self.route, stats.method, status, self.error)}, "
            f'"duration_seconds": {self.seconds:.6f}, '
            f'"db_seconds": {stats.db_seconds:.6f}, '
            f'"pool_seconds": {stats.pool_seconds:.6f}, '
            f'"connect_seconds": {stats.connect_seconds:.6f}, '
            f'"round_trips": {stats.round_trips}, '
            f'"connections": {stats.connections}, "tries": {stats.tries}, '
            f'"cold_start": {"true" if self.is_first else "false"}'
        )
        if not function:
            return line, "}"
        failed = (status or 500) >= 500 or self.error is not None  # noqa: PLR2004
        metrics = metrics_text(function=_quoted(function), failed=failed, is_first=self.is_first)
        return line, f"{metrics}}}"


@lru_cache(maxsize=4)
def _kind(level: int) -> str:
    name = logging.getLevelName(level).lower()
    return f'"level": "{name}", "event": "{_EVENT}", "logger": "{logger.name}"'


@lru_cache(maxsize=512)
def _names(route: str | None, method: str | None, status: int | None, error: str | None) -> str:
    """The members that repeat; those that are None are left out."""
    named = {"route": route, "method": method, "status": status, "error": error}
    return "".join(f', "{name}": {json.dumps(value)}' for name, value in named.items() if value is not None)


def platform_ids(scope: Mapping[str, Any], platform: Platform) -> dict[str, str]:
    """The names by which the platform's own logs know this request."""
    if context := scope.get("aws.context"):
        request_id = getattr(context, "aws_request_id", None)
        return {"lambda_request_id": str(request_id)} if request_id else {}
    if platform.name == "vercel" and (given := header(scope, b"x-vercel-id")):
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
    for key, value in scope["headers"]:
        if key == name:
            found: str = value.decode("latin-1")
            return found
    return ""


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
