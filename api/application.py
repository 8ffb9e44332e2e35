"""The one place where the rooms are joined."""

from __future__ import annotations

from importlib import import_module

from api import lean_imports  # noqa: F401  (before FastAPI)

# isort: split
from fastapi import FastAPI
from fastapi.routing import APIRouter

from api.body_limit import BodyLimit
from api.middleware import RequestMiddleware
from api.problems import RESPONSES, install_handlers
from api.routes import health, tasks, users
from lib.cold_start import cold_start
from lib.engine import Database
from lib.health import Probe
from lib.lifecycle import closing_when_idle

VERSION = "0.1.0"
# The longest text, each character written as two escapes of six, leaves most of it free.
MAX_BODY_BYTES = 2**20

# The example: delete these two with their modules to start your own.
EXAMPLE: tuple[APIRouter, ...] = (users.router, tasks.router)


@cold_start.phase("application")
def create_app(database: Database) -> FastAPI:
    """The ASGI application on `database`. Nothing connects until a request needs it."""
    settings = database.settings
    app = FastAPI(
        title="FastAPI on Neon",
        version=VERSION,
        docs_url=None if settings.is_production else "/docs",
        redoc_url=None,
        openapi_url=None if settings.is_production else "/openapi.json",
        responses=RESPONSES,
        # A redirect would lead to whatever host the client claims to have asked.
        redirect_slashes=False,
        telemetry={"tracing": False},
    )
    app.state.database = database
    app.state.probe = Probe(database)
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    app.add_middleware(
        RequestMiddleware,
        one_at_a_time=settings.platform.serves_one_request_at_a_time,
        timeout_seconds=settings.request_timeout_seconds,
        served=closing_when_idle(database),
    )
    install_handlers(app)
    app.include_router(health.router)
    for router in EXAMPLE:
        app.include_router(router, prefix="/api/v1")
    return app


@cold_start.phase("preparation")
def prepare(app: FastAPI) -> None:
    """Do now, while the connection is on its way, what the first request would wait for."""
    # FastAPI completes the routes of a router when a request is first compared with them.
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})
    # anyio imports this when it is first used.
    import_module("anyio._backends._asyncio")
    database: Database = app.state.database
    database.prepare()
