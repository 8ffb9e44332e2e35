"""The one place where the rooms are joined."""

from __future__ import annotations

from importlib import import_module

from api.health_application import MAX_BODY_BYTES, VERSION, create_health_app

# isort: split
from fastapi import FastAPI
from fastapi.routing import APIRouter

from api.routes import tasks, users
from lib.cold_start import cold_start
from lib.engine import Database
from lib.health import Probe
from lib.lifecycle import closing_when_idle

__all__ = ["MAX_BODY_BYTES", "VERSION", "create_app", "prepare"]

# The example: delete these two with their modules to start your own.
EXAMPLE: tuple[APIRouter, ...] = (users.router, tasks.router)


@cold_start.phase("application")
def create_app(database: Database) -> FastAPI:
    """The ASGI application on `database`. Nothing connects until a request needs it."""
    app = create_health_app(database.settings, Probe(database), closing_when_idle(database))
    app.state.database = database
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
