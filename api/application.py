"""The application: the package, and the routes that are included here."""

from fastapi import FastAPI

from api.blank_application import blank_application
from api.example import install_example
from lib.onetrip.fastapi.installation import install
from lib.onetrip.pool.database import Database
from lib.onetrip.process import process
from lib.revisions import REVISIONS


@process.cold_start.phase("application")
def create_app(database: Database) -> FastAPI:
    """The ASGI application on `database`. Nothing connects until a request needs it."""
    app = blank_application(database.settings)
    install(app, database, revisions=REVISIONS)
    install_example(app, database.settings)
    return app
