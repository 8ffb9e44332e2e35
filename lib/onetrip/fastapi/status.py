"""A page for operators: health, pool, start and the last requests of the process that answers."""

from __future__ import annotations

import platform
import re
import time
from base64 import b64encode
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from ..health.findings import findings
from ..observability.recent_requests import RecentRequest, RecentRequests
from ..process import process
from ..settings.settings import Settings
from .health import report_of
from .operators import OPERATORS_ONLY
from .pool_status import pool_report
from .services import services_of
from .sessions import DatabaseDep

router = APIRouter(
    prefix="/status",
    dependencies=[OPERATORS_ONLY],
    include_in_schema=False,
)
# A phase that begins this much after the process was ready came with a request.
_LATER_MS = 50
_LAST_OF_START = "preparation"


@router.get("", response_class=HTMLResponse)
async def page() -> Response:
    """The page; all that it shows comes from `/status/data`."""
    text, policy = _page()
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    return HTMLResponse(text, headers=headers)


@router.get("/data", response_model=None)
async def data(
    request: Request,
    response: Response,
    database: DatabaseDep,
    since: Annotated[str, Query(pattern=r"^([0-9a-f]{4}:)?[0-9]{1,15}$")] = "0",
    ask: bool = False,  # noqa: FBT001, FBT002  (FastAPI passes it by name)
) -> dict[str, Any]:
    """The data that the page draws, with requests after number `since`; `ask` asks the database.

    `since` may name the instance that it is of, such as `4c1f:17`; another one tells all of its own.
    """
    response.headers["Cache-Control"] = "no-store"
    services = services_of(request)
    probe, recent = services.probe, services.recent
    report = await report_of(probe) if ask else None
    return {
        "now": time.time(),
        "app": {
            "name": request.app.title,
            "version": request.app.version,
            "requests": process.cold_start.requests,
            "instance": recent.instance,
            **_process(database.settings),
        },
        "database": report._asdict() if report else None,
        "pool": pool_report(database),
        "cold_start": phases(),
        "warnings": [finding._asdict() for finding in findings(database, report or probe.newest)],
        "requests": [_shown(*numbered) for numbered in recent.since(_number(since, recent))],
    }


def phases() -> list[dict[str, Any]]:
    """The phases of this process's start, in their order; those that came with a request are `later`."""
    start, early = process.cold_start, process.early_connection
    found: list[dict[str, Any]] = [
        {"name": name, "start_ms": start.starts_ms[name], "ms": milliseconds, "background": False}
        for name, milliseconds in start.phases_ms.items()
    ]
    if early and early.milliseconds is not None and early.began_at is not None:
        start_ms = round((early.began_at - start.began) * 1000, 3)
        found.append(
            {"name": "handshake", "start_ms": start_ms, "ms": early.milliseconds, "background": True}
        )
    ready = start.starts_ms.get(_LAST_OF_START, 0) + start.phases_ms.get(_LAST_OF_START, 0)
    return [
        {**phase, "name": phase["name"].replace("_", " "), "later": phase["start_ms"] > ready + _LATER_MS}
        for phase in sorted(found, key=lambda phase: phase["start_ms"])
    ]


def _number(since: str, recent: RecentRequests) -> int:
    instance, _, number = since.rpartition(":")
    return int(number) if instance in {"", recent.instance} else 0


def _process(settings: Settings) -> dict[str, Any]:
    return {
        "environment": settings.environment or settings.platform.environment,
        "platform": settings.platform.name,
        "one_of_many": settings.platform.is_serverless,
        "region": settings.platform.region,
        "mode": settings.mode,
        "python": platform.python_version(),
        "started_at": process.cold_start.initialized_at.timestamp(),
    }


def _shown(number: int, request: RecentRequest) -> dict[str, Any]:
    return {
        "number": number,
        "at": request.at,
        "method": request.method,
        "route": request.route,
        "status": request.status,
        "ms": round(request.seconds * 1000, 3),
        "db_ms": round(request.db_seconds * 1000, 3),
        "trips": request.round_trips,
    }


@lru_cache(maxsize=1)
def _page() -> tuple[str, str]:
    """The page and the policy that lets its own style and script run, by their hashes, and nothing else."""
    text = Path(__file__).with_name("status.html").read_text(encoding="utf-8")
    style, script = (_hash(text, tag) for tag in ("style", "script"))
    policy = {
        "default-src": "'none'",
        "style-src": style,
        "script-src": script,
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return text, "; ".join(f"{name} {value}" for name, value in policy.items())


def _hash(text: str, tag: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    assert found is not None  # noqa: S101  (it is our own page)
    return f"'sha256-{b64encode(sha256(found[1].encode()).digest()).decode()}'"
