"""The one place where the rooms are joined."""

from __future__ import annotations

from importlib import import_module

from api.health_application import MAX_BODY_BYTES, VERSION, complete_routes, create_health_app

# isort: split
from fastapi import FastAPI

from api.example import install_example
from api.routes import pool, status
from lib.cold_start import cold_start
from lib.engine import Database
from lib.health import Probe
from lib.lifecycle import closing_when_idle
from lib.measures import Measures

__all__ = ["MAX_BODY_BYTES", "VERSION", "create_app", "prepare"]


@cold_start.phase("application")
def create_app(database: Database) -> FastAPI:
    """The ASGI application on `database`. Nothing connects until a request needs it."""
    measures, close_when_idle = Measures(database), closing_when_idle(database)

    def served() -> None:
        database.pool_watch.look()
        measures.request_ended()
        close_when_idle()

    app = create_health_app(database.settings, Probe(database), served)
    app.state.database = database
    app.include_router(pool.router)
    app.include_router(status.router)
    install_example(app, database.settings)
    return app


@cold_start.phase("preparation")
def prepare(app: FastAPI) -> None:
    """Do now, while the connection is on its way, what the first request would wait for."""
    complete_routes(app)
    # anyio imports this when it is first used.
    import_module("anyio._backends._asyncio")
    database: Database = app.state.database
    database.prepare()
