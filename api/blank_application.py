"""The application without routes: its name, its version, what it shows of itself."""

from fastapi import FastAPI

from lib.onetrip.settings.settings import Settings

NAME = "FastAPI on Neon"
VERSION = "0.1.0"


def blank_application(settings: Settings) -> FastAPI:
    """A FastAPI application that describes itself to everybody but in production."""
    return FastAPI(
        title=NAME,
        version=VERSION,
        license_info={"name": "MIT", "identifier": "MIT"},
        # Generated clients call the operations by these names.
        generate_unique_id_function=lambda route: route.name,
        docs_url=None if settings.is_production else "/docs",
        redoc_url=None,
        openapi_url=None if settings.is_production else "/openapi.json",
        # A redirect would lead to any host that a client claims to have asked.
        redirect_slashes=False,
        # Spans and metrics where an SDK is loaded; the log is the package's, and holds no secrets.
        telemetry={"logs": False},
    )
