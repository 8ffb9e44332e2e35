"""The example's routes. Delete this, and the modules that it names, to start your own."""

from __future__ import annotations

from fastapi import FastAPI

from api.description import complete_description
from lib.example.tokens import Tokens
from lib.onetrip.fastapi.late_router import include_on_demand
from lib.onetrip.settings.settings import Settings

# The modules of `api.routes`, and what their paths begin with.
_ROUTED = {
    "auth": ("/auth", "/users/me", "/users/{user_id}/password"),
    "users": ("/users",),
    "posts": ("/posts",),
    "tasks": ("/tasks",),
    "tags": ("/tags",),
    "accounts": ("/accounts",),
    "transfers": ("/transfers",),
}


def install_example(app: FastAPI, settings: Settings) -> None:
    """Add the example to `app`."""
    app.state.tokens = Tokens(settings)
    for module, paths in _ROUTED.items():
        include_on_demand(app, f"api.routes.{module}:router", prefix="/api/v1", paths=paths)
    complete_description(app)
