"""The application: routers are included here."""

from fastapi import FastAPI

from api.blank_application import blank_application
from api.routes import notes
from lib.onetrip.fastapi.installation import install
from lib.onetrip.pool.database import Database
from lib.onetrip.process import process
from lib.revisions import REVISIONS


@process.cold_start.phase("application")
def create_app(database: Database) -> FastAPI:
    """The ASGI application on `database`. Nothing connects until a request needs it."""
    app = blank_application(database.settings)
    install(app, database, revisions=REVISIONS)
    app.include_router(notes.router, prefix="/api/v1")
    return app
