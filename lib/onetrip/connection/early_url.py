"""The database's URL as the environment most likely means it, read with the standard library alone.

The settings decide, but they take Pydantic, a fifth of a cold start. A connection that was begun to
another URL than theirs is dropped, so a wrong guess costs that connection and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..platform import Platform, ca_file
from ..settings.environment import given, prefixed
from ..url.database_url import DatabaseURL, DatabaseURLError

# The names that `settings.variables` has for the two, the strongest first.
NAMES = ("DATABASE_URL", "POSTGRES_URL", "NEON_POOLED_DATABASE_URL", "DB_URL")
UNPOOLED_NAMES = ("DATABASE_URL_UNPOOLED", "POSTGRES_URL_NON_POOLING", "NEON_DATABASE_URL", "DIRECT_URL")


def likely_url() -> DatabaseURL | None:
    """The URL that requests will probably use; None if no request waits for this process, or none is set."""
    if not Platform.detect(os.environ).starts_on_demand:
        return None
    try:
        direct, url = _first(UNPOOLED_NAMES), _first(NAMES)
    except DatabaseURLError:
        return None  # The settings will say what is wrong with it.
    if os.environ.get("DATABASE_MODE") == "direct":
        chosen = direct or url
        return chosen and chosen.direct()
    chosen = url or (direct and direct.direct())
    return chosen and chosen.pooled()


def _first(names: Iterable[str]) -> DatabaseURL | None:
    found = next(given(prefixed(names, None), None), None)
    tls = os.environ.get("DATABASE_TLS") or None
    if found is None or tls not in {None, "require", "verify-full"}:
        return None
    return DatabaseURL.parse(found.value).secured(tls, ca_file())
