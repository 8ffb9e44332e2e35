"""Engines: SQLAlchemy's own functions, with connections of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Engine, NullPool, make_url
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from ..connection.connector import connect_arguments
from ..url.database_url import DatabaseURL
from .dialect import NAME

# Options that would replace the package's connections by others, with the remedy.
_REFUSED = {
    "creator": "Change connect arguments in a do_connect listener, or name them in connect_args.",
    "async_creator": "Change connect arguments in a do_connect listener, or name them in connect_args.",
    "pool": "Name its class with poolclass.",
    "module": "The driver is psycopg.",
}


def create_engine(url: str | URL | DatabaseURL, **options: Any) -> Engine:
    """SQLAlchemy's `create_engine`, whose transactions take one round trip for their first statement.

    `url` is any `postgres://` or `postgresql://` URL, whichever driver it names. `options` are SQLAlchemy's;
    the few that cannot work are refused by name. No environment variable and no file is read, except for
    the marks by which Vercel and Lambda are recognised: there the pool is tiny unless the options say more.
    Raise `DatabaseURLError` (a ValueError) for a URL that cannot be used.
    """
    return sqlalchemy.create_engine(_own_url(url), **_supported(options))


def create_async_engine(url: str | URL | DatabaseURL, **options: Any) -> AsyncEngine:
    """`create_engine` for async code."""
    return sqlalchemy_asyncio.create_async_engine(_own_url(url), **_supported(options))


def migration_engine(url: DatabaseURL) -> Engine:
    """A plain engine on the direct URL, which keeps no connection."""
    return sqlalchemy.create_engine(
        _sqlalchemy_url(url, "psycopg"), connect_args=connect_arguments(url), poolclass=NullPool
    )


def _own_url(url: str | URL | DatabaseURL) -> URL:
    if isinstance(url, URL):
        url = url.render_as_string(hide_password=False)
    if isinstance(url, str):
        url = DatabaseURL.parse(url)
    return _sqlalchemy_url(url, NAME)


def _sqlalchemy_url(url: DatabaseURL, driver: str) -> URL:
    return make_url(url.render(hide_password=False)).set(drivername=f"postgresql+{driver}")


def _supported(options: Mapping[str, Any]) -> dict[str, Any]:
    for name, remedy in _REFUSED.items():
        if options.get(name) is not None:
            raise TypeError(f"{name}: is not supported, since it would open other connections. {remedy}")
    # Each checkout is validated already, with a round trip only after some idle seconds.
    return {name: value for name, value in options.items() if name != "pool_pre_ping"}
