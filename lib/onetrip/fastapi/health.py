"""Is it alive, is it ready, and how long did it take to start?"""

from __future__ import annotations

import platform
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from ..health.probe import Probe, Report
from ..process import process
from .concurrency import runs_inline
from .operators import OperatorDep, SettingsDep
from .problem_details import problem_response
from .services import services_of

router = APIRouter(prefix="/health", tags=["health"])


async def report_of(probe: Probe) -> Report:
    """The report, waited for on the loop's own thread where no other request would have to wait."""
    return probe.report() if runs_inline.get() else await probe.async_report()


async def _report(request: Request) -> Report:
    return await report_of(services_of(request).probe)


ReportDep = Annotated[Report, Depends(_report)]


@router.head("/live", include_in_schema=False)
@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers. The database is not asked."""
    return {"status": "alive"}


@router.get("/ready")
async def ready(request: Request, report: ReportDep) -> Response:
    """The database answers; 503 while it wakes up, is unreachable or was not migrated yet.

    `database` is then `waking`, `busy` (all connections of this process are in use) or `down`, or
    `schema` is `behind`. A schema that is `ahead` of this code is no reason to stop.
    """
    checks: dict[str, str] = {"database": "ok" if report.status == "ready" else report.status}
    if report.schema:
        checks["schema"] = report.schema
    if report.status == "ready" and report.schema != "behind":
        return JSONResponse({"status": "ready", "checks": checks})
    return problem_response(request.scope, 503, kind="not-ready", headers={"Retry-After": "2"}, checks=checks)


@router.get("/db")
async def database_health(request: Request, report: ReportDep, settings: SettingsDep) -> Response:
    """The result of the database's last probe."""
    if report.status != "ready":
        return problem_response(
            request.scope, 503, kind=f"database-{report.status}", headers={"Retry-After": "2"}
        )
    return JSONResponse(
        {
            "status": "healthy",
            "latency_ms": report.latency_ms,
            "database": "postgresql",
            "mode": settings.mode,
            "server_version": report.server_version,
        }
    )


@router.get("")
async def summary(request: Request, report: ReportDep) -> dict[str, Any]:
    """The application and its database at a glance; 200 as long as the application answers."""
    return {
        "status": "healthy" if report.status == "ready" else "degraded",
        "app": request.app.title,
        "version": request.app.version,
        "database": {"status": report.status, "latency_ms": report.latency_ms},
    }


@router.get("/cold-start")
async def cold_start_report(
    report: ReportDep, settings: SettingsDep, *, operator: OperatorDep
) -> dict[str, Any]:
    """The start of this process; in a fresh one, the measurement of its cold start."""
    start = process.cold_start
    brief = {"first_request": start.requests == 1, "database": report.status}
    if not operator:
        return brief
    running_on, early = settings.platform, process.early_connection
    used, handshake_ms = (early.used, early.milliseconds) if early else (False, None)
    return brief | {
        "initialized_at": start.initialized_at.isoformat(),
        "phases_ms": start.report_ms,
        "early_connection": {"begun": early is not None, "used": used, "handshake_ms": handshake_ms},
        "requests": start.requests,
        "platform": running_on.name,
        "region": running_on.region,
        "memory_mb": running_on.memory_mb,
        "python": platform.python_version(),
    }
