"""The package in a FastAPI application: `install(app, database)`, session dependencies, problems.

Parameters of a route are annotated with `SessionDep` or `AsyncSessionDep` (a transaction that commits before
the response exists), `ReadSessionDep` or `AsyncReadSessionDep` (single statements, no transaction) and
`DatabaseDep` (the installed `Database`). `OPERATORS_ONLY` is a list of dependencies, which refuse everybody
else's requests. `include_on_demand` includes a router that is imported when a request needs it.

Every name here is imported when it is first used, so that a process may start in any order.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .installation import install
    from .late_router import include_on_demand
    from .operators import OPERATORS_ONLY
    from .problem_details import problems
    from .sessions import (
        AsyncReadSessionDep,
        AsyncSessionDep,
        DatabaseDep,
        ReadSessionDep,
        SessionDep,
        session_dependency,
    )

__all__ = [
    "OPERATORS_ONLY",
    "AsyncReadSessionDep",
    "AsyncSessionDep",
    "DatabaseDep",
    "ReadSessionDep",
    "SessionDep",
    "include_on_demand",
    "install",
    "problems",
    "session_dependency",
]

_MODULES = {
    "installation": ("install",),
    "late_router": ("include_on_demand",),
    "operators": ("OPERATORS_ONLY",),
    "problem_details": ("problems",),
    "sessions": (
        "AsyncReadSessionDep",
        "AsyncSessionDep",
        "DatabaseDep",
        "ReadSessionDep",
        "SessionDep",
        "session_dependency",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
