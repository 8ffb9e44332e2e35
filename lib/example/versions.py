"""Changes that are made only if the row has not changed since it was read."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement

from lib.example.columns import Versioned

# The versions that a client has seen; None if it does not mind.
Versions = Collection[int] | None


def unchanged(model: type[Versioned], versions: Versions) -> list[ColumnElement[bool]]:
    """The condition that the row still has one of `versions`."""
    return [] if versions is None else [model.version.in_(versions)]
