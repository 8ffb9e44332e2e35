"""The one place where the rooms are joined."""

from __future__ import annotations

from fastapi import FastAPI

from api.body_limit import BodyLimit
from api.example import install_example
from api.middleware import RequestMiddleware
from api.problems import RESPONSES, install_handlers
from api.routes import health
from lib.cold_start import cold_start
from lib.engine import Database
from lib.health import Probe
from lib.lifecycle import closing_when_idle

VERSION = "0.1.0"
# The longest text, each character written as two escapes of six, leaves most of it free.
MAX_BODY_BYTES = 2**20


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
    install_example(app, settings)
    return app
