"""The start of a process: its order, and what shortens it.

Only this file and `connection/early*` hold such tricks.

The order is the point: the clock first, then a connection in a thread of its own, then the settings,
and the imports that take long last. The garbage collector would only find that nothing is garbage yet.
What each step saves is in docs/benchmarks/cold-start.md.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..process import process

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..pool.database import Database
    from ..settings.settings import Settings


@contextmanager
def starting(*, connects_early: bool = True, own: str = "") -> Iterator[Settings]:
    """Start the process around the imports in the block: connection, settings, log, then FastAPI.

    What is wrong with the settings ends the process with exit code 2; those of the application that
    `own` names, as in "lib.settings:OWN", are checked with them. `started` belongs behind it.
    """
    gc.disable()
    if connects_early:
        with process.cold_start.phase("early_connection"):
            from ..connection import early  # noqa: PLC0415

            early.start_likely()
    with process.cold_start.phase("settings"):
        settings = _settings(own)
        if connects_early:
            early.start(settings)
    with process.cold_start.phase("imports"):
        _import_fastapi()
        yield settings


def started(app: FastAPI) -> None:
    """Do now, while the connection is on its way, what the first request would wait for."""
    from .route_search import complete_routes  # noqa: PLC0415  (FastAPI is imported by now)

    with process.cold_start.phase("preparation"):
        services = app.state.onetrip
        if not services.settings.platform.starts_on_demand:
            # No request waits yet; one that does waits only for its own router.
            complete_routes(app)
        if database := services.database:
            # anyio imports this when a first route runs in a worker thread.
            import_module("anyio._backends._asyncio")
            database.prepare()
            if database.settings.platform.name == "lambda-web-function":
                _close_on_termination(database)
    gc.freeze()
    gc.enable()


@contextmanager
def without_collector() -> Iterator[None]:
    """Import what stays without looking for garbage in between."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _close_on_termination(database: Database) -> None:
    from ..pool.shutdown import close_on_termination  # noqa: PLC0415

    close_on_termination(database)


def _settings(own: str) -> Settings:
    from ..connection.source import source_for  # noqa: PLC0415
    from ..observability import json_log  # noqa: PLC0415
    from ..settings.own import named  # noqa: PLC0415
    from ..settings.settings import settings_or_exit  # noqa: PLC0415

    settings = settings_or_exit(named(own) if own else ())
    source = source_for(settings)
    json_log.install(settings, lambda: source.known)
    return settings


def _import_fastapi() -> None:
    """Import FastAPI without its models of OpenAPI documents, and without Pydantic 1."""
    from .late_models import late_models  # noqa: PLC0415

    with late_models():
        import fastapi  # noqa: F401, PLC0415
    from fastapi._compat import shared  # noqa: PLC0415

    is_model_of_pydantic_1 = shared.is_pydantic_v1_model_class

    def asks_only_if_imported(cls: Any) -> bool:
        return "pydantic.v1" in sys.modules and is_model_of_pydantic_1(cls)

    # FastAPI 0.165 imports Pydantic 1 to ask of each class in a route whether it is a model of that. It
    # cannot be one before that is imported.
    shared.is_pydantic_v1_model_class = asks_only_if_imported
