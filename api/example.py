"""The example's routes. Delete this, and the modules that it names, to start your own."""

from __future__ import annotations

from fastapi import FastAPI

from api.description import complete_description
from api.routes import accounts, auth, posts, tags, tasks, transfers, users
from lib.example.tokens import Tokens
from lib.onetrip.settings.settings import Settings

_ROUTED = (auth, users, posts, tasks, tags, accounts, transfers)


def install_example(app: FastAPI, settings: Settings) -> None:
    """Add the example to `app`."""
    app.state.tokens = Tokens(settings)
    for module in _ROUTED:
        app.include_router(module.router, prefix="/api/v1")
    complete_description(app)
