"""Everything around a request that needs no database: id, deadline, problems, log line, body limit, health.

Neither SQLAlchemy nor psycopg is imported before the first probe of the database.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from .access_log import AccessLog
from .concurrency import run_sync_code_by_platform
from .late_router import include_on_demand
from .middleware.body import WholeBody
from .middleware.request import AnswerMiddleware, RequestMiddleware, outermost
from .middleware.responses import Buffered, Head
from .middleware.root_path import RootPath
from .problem_details import RESPONSES, install_handlers
from .route_search import search_by_beginning
from .services import Services

# A megabyte: the longest text of JSON, each character written as two escapes of six, leaves most of it free.
MAX_BODY_BYTES = 2**20


def install_requests(
    app: FastAPI,
    services: Services,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    served: Callable[[], None] = lambda: None,
) -> None:
    """Give `app` middleware, problems and health routes; `served` is called after each request."""
    app.state.onetrip = services
    app.router.responses = {**RESPONSES, **app.router.responses}
    # The last is the outermost.
    app.add_middleware(AnswerMiddleware, services=services, max_body_bytes=max_body_bytes)
    app.add_middleware(Head)
    app.add_middleware(Buffered)
    app.add_middleware(
        RequestMiddleware,
        services=services,
        access_log=AccessLog(services.settings, services.recent),
        served=served,
    )
    app.add_middleware(RootPath, root_path=services.settings.root_path)
    if services.settings.platform.name == "lambda-web-function":
        # AWS's proxy is half-duplex.
        app.add_middleware(WholeBody)
    outermost(app, WholeBody, RootPath, RequestMiddleware)
    run_sync_code_by_platform()
    search_by_beginning()
    install_handlers(app)
    include_on_demand(app, f"{__package__}.health:router", paths=["/health"])
