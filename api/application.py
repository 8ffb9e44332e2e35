"""The one place where the rooms are joined."""

from __future__ import annotations

from importlib import import_module

from lib.onetrip.fastapi.install import MAX_BODY_BYTES, VERSION, complete_routes, create_health_app

# isort: split
from fastapi import FastAPI

from api.example import install_example
from lib.onetrip.cold_start import cold_start
from lib.onetrip.fastapi import pool_status as pool
from lib.onetrip.fastapi import status
from lib.onetrip.health.probe import Probe
from lib.onetrip.observability.otel import Measures
from lib.onetrip.pool.database import Database
from lib.onetrip.pool.shutdown import closing_when_idle

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
