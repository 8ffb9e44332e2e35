"""The application with its health routes alone, which needs no database to say that it lives.

Neither SQLAlchemy nor psycopg is imported before the first probe of the database. The whole
application is this one with more routes, so both give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable

from . import startup as lean_imports  # noqa: F401  (before FastAPI)

# isort: split
from fastapi import FastAPI

from ..health.probe import Probe
from ..settings.settings import Settings
from . import health
from .access_log import AccessLog
from .body_limit import BodyLimit
from .middleware import RequestMiddleware
from .problems import RESPONSES, install_handlers
from .recent_requests import RecentRequests

VERSION = "0.1.0"
# The longest text, each character written as two escapes of six, leaves most of it free.
MAX_BODY_BYTES = 2**20


def create_health_app(settings: Settings, probe: Probe, served: Callable[[], None] = lambda: None) -> FastAPI:
    """The ASGI application that answers for `probe`; `served` is called after each request."""
    app = FastAPI(
        title="FastAPI on Neon",
        version=VERSION,
        docs_url=None if settings.is_production else "/docs",
        redoc_url=None,
        openapi_url=None if settings.is_production else "/openapi.json",
        responses=RESPONSES,
        # A redirect would lead to whatever host the client claims to have asked.
        redirect_slashes=False,
        # Spans and metrics where an SDK is loaded; logs are ours, and hold no secrets.
        telemetry={"logs": False},
    )
    app.state.settings = settings
    app.state.probe = probe
    app.state.recent = RecentRequests()
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    app.add_middleware(
        RequestMiddleware,
        settings=settings,
        access_log=AccessLog(settings, app.state.recent),
        served=served,
    )
    install_handlers(app)
    app.include_router(health.router)
    return app


def complete_routes(app: FastAPI) -> None:
    """Do now what FastAPI does when a request is first compared with the routes."""
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})
