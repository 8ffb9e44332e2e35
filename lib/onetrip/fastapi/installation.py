"""The package, added to a FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.utils import solve_dependencies
from fastapi.routing import run_endpoint_function

from ..health.probe import Probe
from ..observability.caller_stack import begins_below
from ..observability.otel import Measures
from ..pool.database import Database
from ..pool.database import database as process_database
from ..pool.shutdown import closing_when_idle
from .late_router import include_on_demand
from .requests import MAX_BODY_BYTES, install_requests
from .services import Services


def install(
    app: FastAPI,
    database: Database | None = None,
    *,
    revisions: Sequence[str] = (),
    max_body_bytes: int = MAX_BODY_BYTES,
) -> None:
    """Give `app` deadlines, commits before the response, problems, request ids, health and status routes.

    Call it before routes are included. `database` is the process's own, from its settings, if none is given.
    `revisions` are the Alembic revisions that the code knows, the newest last; with them readiness reports
    a schema that is behind. Bodies longer than `max_body_bytes` are refused with 413.
    """
    database = database or process_database()
    measures, close_when_idle = Measures(database), closing_when_idle(database)
    watch = database.pool_watch

    def served() -> None:
        watch.warn_of_leaks()
        measures.request_ended()
        close_when_idle()

    _close_with(app, database)
    services = Services(database.settings, Probe(database, revisions=revisions), database)
    install_requests(app, services, max_body_bytes=max_body_bytes, served=served)
    include_on_demand(app, f"{__package__}.pool_status:router", paths=["/db"])
    include_on_demand(app, f"{__package__}.status:router", paths=["/status"])
    begins_below(run_endpoint_function, solve_dependencies)


def _close_with(app: FastAPI, database: Database) -> None:
    """Close the database's idle connections when a server ends `app`."""
    own = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[Any]:
        async with own(running) as state:
            yield state
        await database.aclose()

    app.router.lifespan_context = lifespan
