"""Routes found by the literal beginning of their paths.

FastAPI asks the routes of each included router one after the other, and those of the router that it takes
once more. Here only routes whose paths begin like the request's are asked, once. A router is completed, which
takes milliseconds, when the first request for one of its routes comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import fastapi.routing
from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.routing import Host, Match
from starlette.types import Scope

_FOUND, _INDEX = "onetrip.found", "_onetrip_index"
# FastAPI has no public name for a router within another one.
_routing: Any = fastapi.routing
IncludedRouter = _routing._IncludedRouter  # noqa: SLF001
STOCK = {name: getattr(IncludedRouter, name) for name in ("matches", "_match")}


class _Narrowed:
    """A router with some of its routes, as far as FastAPI's search looks at it."""

    __slots__ = ("_candidates",)

    def __init__(self, candidates: list[Any]) -> None:
        self._candidates = candidates

    def effective_candidates(self) -> list[Any]:
        """The routes to be asked."""
        return self._candidates


def search_by_beginning() -> None:
    """Let FastAPI's included routers be searched so."""
    IncludedRouter.matches = _matches_by_beginning
    IncludedRouter._match = _match_by_beginning  # noqa: SLF001


def complete_routes(app: Any) -> None:
    """Do now what FastAPI does when a router is first searched."""
    for _ in fastapi.routing.iter_route_contexts(app.routes):
        pass


def _matches_by_beginning(self: Any, scope: Scope) -> tuple[Match, Scope]:
    index = _index_of(self)
    if not get_route_path(scope).startswith(index.starts):
        return Match.NONE, {}
    if not index.is_stock:
        found: tuple[Match, Scope] = STOCK["matches"](self, scope)
        return found
    # What FastAPI's router would ask in turn.
    return self._match(scope)[0], {}


def _match_by_beginning(self: Any, scope: Scope) -> Any:
    asked = (self, scope["path"], scope.get("root_path"), scope["type"], scope.get("method"))
    before, found = scope.get(_FOUND, (None, None))
    if before != asked:
        found = _searched(self, scope)
        # The router is searched once more as soon as it is taken.
        scope[_FOUND] = asked, found
    return found


def _searched(router: Any, scope: Scope) -> Any:
    near, method, search = _index_of(router).near(get_route_path(scope)), scope.get("method"), STOCK["_match"]
    for each in near:
        if not each.is_plain:
            break
        if method in each.methods:
            match, child_scope = each.route.matches(scope)
            if match is Match.FULL:
                route = each.route.original_route
                return match, {**child_scope, "route": route}, route, each.route
    allowed = [each.route for each in near if not each.methods or method in each.methods]
    found = search(_Narrowed(allowed), scope)
    # Routes of other methods matter only where none has this one: they make the answer 405.
    return found if found[0] is Match.FULL else search(_Narrowed([each.route for each in near]), scope)


class _Candidate(NamedTuple):
    """A route, what every path of it begins with, and its methods if it is bound to some."""

    beginning: str
    # The beginning is the whole path.
    is_whole: bool
    # It matches as FastAPI's own routes do.
    is_plain: bool
    methods: set[str]
    route: Any

    def may_match(self, path: str) -> bool:
        """False if a look at the beginning shows that it has not this path."""
        return path == self.beginning if self.is_whole else path.startswith(self.beginning)


class _Index:
    """What a router's paths begin with, as long as no route is added to it or to routers within it."""

    def __init__(self, router: Any) -> None:
        self._router = router
        within = [router.original_router, *_routers_within(router.original_router)]
        self._versions = [(each, each._routes_version) for each in within]  # noqa: SLF001
        self.is_stock = type(router.original_router).matches is fastapi.routing.APIRouter.matches
        paths = [*_paths(router.original_router)]
        prefix = router.include_context.prefix
        # The beginnings of the paths of all its routes, known without completing them; a host has any path.
        self.starts = ("",) if None in paths else tuple({_literal(f"{prefix}{path}"): 0 for path in paths})

    @property
    def is_current(self) -> bool:
        """True if no router of it was changed since."""
        for router, version in self._versions:  # noqa: SIM110  (a generator would cost as much again)
            if router._routes_version != version:  # noqa: SLF001
                return False
        return True

    def near(self, path: str) -> list[_Candidate]:
        """The routes that may have this path, in their order."""
        found = self._by_path.get(path)
        if found is None:
            found = [each for each in self._with_parameters if path.startswith(each.beginning)]
        return found

    @cached_property
    def _by_path(self) -> dict[str, list[_Candidate]]:
        """The same for each path without parameters."""
        paths = {each.beginning for each in self._candidates if each.is_whole}
        return {path: [each for each in self._candidates if each.may_match(path)] for path in paths}

    @cached_property
    def _with_parameters(self) -> list[_Candidate]:
        return [each for each in self._candidates if not each.is_whole]

    @cached_property
    def _candidates(self) -> list[_Candidate]:
        return [_described(candidate) for candidate in self._router.effective_candidates()]


def _index_of(router: Any) -> _Index:
    index: _Index | None = router.__dict__.get(_INDEX)
    if index is None or not index.is_current:
        index = router.__dict__[_INDEX] = _Index(router)
    return index


def _routers_within(router: Any) -> Iterator[Any]:
    for route in router.routes:
        if isinstance(route, IncludedRouter):
            yield route.original_router
            yield from _routers_within(route.original_router)


def _paths(router: Any) -> Iterator[str | None]:
    for route in router.routes:
        if isinstance(route, IncludedRouter):
            prefix = route.include_context.prefix
            yield from (path and f"{prefix}{path}" for path in _paths(route.original_router))
        elif isinstance(route, Host):
            yield None
        else:
            yield f"{getattr(route, 'path', '')}{{"


def _described(candidate: Any) -> _Candidate:
    route = getattr(candidate, "original_route", None)
    if isinstance(route, APIRoute):
        path, is_plain = candidate.path_format, type(route).matches is APIRoute.matches
        return _Candidate(_literal(path), "{" not in path, is_plain, candidate.methods, candidate)
    # Routers within it know their own beginnings.
    return _Candidate("", is_whole=False, is_plain=False, methods=set(), route=candidate)


def _literal(path: str) -> str:
    return path.partition("{")[0]
