"""Tests of an application: a database for each test, a client, and a budget of round trips.

`plugin` has the fixtures and the marker; pytest finds it where the package is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import RoundTrips, RoundTripsError, round_trips

__all__ = ["RoundTrips", "RoundTripsError", "round_trips"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import budget  # noqa: PLC0415  (the embedded server needs neither pytest nor SQLAlchemy)

    return getattr(budget, name)
