"""Routers that are imported when the first request for one of their paths comes.

An instance that starts for a waiting request imports only what that request needs. Everywhere else, in
development and in tests as well, a router is imported at once, and its mistakes are found there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import copy
from importlib import import_module
from itertools import takewhile
from threading import RLock
from typing import Any

import fastapi.routing
from fastapi import APIRouter, FastAPI
from starlette._utils import get_route_path
from starlette.routing import Match
from starlette.types import Scope

from ..errors import UsageError
from ..platform import Platform
from .route_search import IncludedRouter
from .startup import without_collector

# What a router has that has neither a lifespan nor handlers of startup and shutdown, nor routers within it.
_DefaultLifespan: Any = fastapi.routing._DefaultLifespan  # noqa: SLF001


def include_on_demand(
    app: FastAPI, name: str, *, prefix: str = "", paths: Sequence[str], **options: Any
) -> None:
    """Include the router `name`, as in "api.routes.notes:router", in `app` when a request first needs it.

    The paths of all its routes begin with one of `paths`, such as "/notes" or "/users/{user_id}/notes", which
    follow `prefix`. `options` are those of `include_router`.
    """
    parent = copy(app.router)
    beginnings = [_parts(f"{prefix}{path}") for path in paths]

    def included() -> IncludedRouter:
        module, _, attribute = name.partition(":")
        router: APIRouter = getattr(import_module(module), attribute)
        if wrong := _unfit(router, prefix, beginnings):
            raise UsageError(f"include_on_demand: {wrong} ({name}).")
        parent.routes = []
        parent.include_router(router, prefix=prefix, **options)
        return parent.routes[0]

    late = LateRouter(included, beginnings)
    app.router.routes.append(late)
    app.router._mark_routes_changed()  # noqa: SLF001  (as `include_router` does)
    if not Platform.current().starts_on_demand:
        late.load()


class LateRouter(IncludedRouter):  # type: ignore[misc]  # FastAPI has no public name for it
    """An included router that becomes one when a request or anything else looks into it."""

    def __init__(
        self, included: Callable[[], IncludedRouter], beginnings: Sequence[Sequence[str | None]]
    ) -> None:
        self._included, self._beginnings = included, beginnings
        # Few paths need a closer look.
        self._starts = tuple(_literal(parts) for parts in beginnings)
        # The module may look at the application's routes.
        self._loading = RLock()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Do as FastAPI's, but for a path of another router's."""
        path = get_route_path(scope)
        if not path.startswith(self._starts) or not _begins(path, self._beginnings):
            return Match.NONE, {}
        self.load()
        found: tuple[Match, Scope] = self.matches(scope)
        return found

    def effective_low_priority_routes(self) -> list[Any]:
        """The routes of frontends, of which it has none."""
        return []

    def load(self) -> None:
        """Import the router, and become what `include_router` makes of it."""
        with self._loading:
            if type(self) is LateRouter:
                with without_collector():
                    included = self._included()
                # The attributes first: other threads use it meanwhile.
                self.__dict__.update(included.__dict__)
                self.__class__ = IncludedRouter

    def __getattr__(self, name: str) -> Any:
        # Only what it has not yet comes here.
        if name.startswith("__"):
            raise AttributeError(name)
        self.load()
        return getattr(self, name)


def _parts(path: str) -> list[str | None]:
    """The parts of a path; None for one that may be anything."""
    return [None if "{" in part else part for part in path.split("/")]


def _literal(parts: Sequence[str | None]) -> str:
    """What each path begins with that begins with these parts."""
    return "/".join(part for part in takewhile(lambda part: part is not None, parts) if part is not None)


def _begins(path: str, beginnings: Sequence[Sequence[str | None]]) -> bool:
    parts = path.split("/")
    return any(
        len(wanted) <= len(parts)
        and all(part is None or part == given for part, given in zip(wanted, parts, strict=False))
        for wanted in beginnings
    )


def _unfit(router: APIRouter, prefix: str, beginnings: Sequence[Sequence[str | None]]) -> str | None:
    """What keeps a router from being included late."""
    if (
        type(router.lifespan_context) is not _DefaultLifespan
        or router.on_startup
        or router.on_shutdown
        or router._low_priority_routes  # noqa: SLF001  (those of frontends)
    ):
        return (
            "a router with a lifespan, startup handlers, a frontend or routers within it cannot be included "
            "late. Use app.include_router"
        )
    for route in router.routes:
        if not _begins(f"{prefix}{_example(route)}", beginnings):
            path = getattr(route, "path", "the route of a host")
            return f"{path} begins with none of `paths`. Add it"
    return None


def _example(route: Any) -> str:
    """A path that the route takes; a parameter that may hold slashes holds one."""
    convertors = getattr(route, "param_convertors", {})
    values = {
        name: "a/b" if re.fullmatch(convertor.regex, "a/b") else "a" for name, convertor in convertors.items()
    }
    return str(getattr(route, "path_format", "")).format(**values)
