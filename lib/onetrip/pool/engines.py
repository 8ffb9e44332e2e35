"""Engines: SQLAlchemy's own functions, with connections of this package."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs

import sqlalchemy
from sqlalchemy import URL, Engine, NullPool, PoolProxiedConnection, make_url
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import immutabledict

from ..connection.connector import connect_arguments
from ..url.database_url import DatabaseURL, DatabaseURLError
from .connect_args import driver_arguments
from .dialect import NAME

# Options that would replace the package's connections by others, with the remedy.
_ARGUMENTS = "Name connect arguments in connect_args, or change them in a do_connect listener."
_REFUSED = {
    "creator": _ARGUMENTS,
    "async_creator": _ARGUMENTS,
    "pool": "Name its class with poolclass.",
    "module": "The driver is psycopg.",
}


NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
# The execution options of connections that read.
READING = {"postgresql_readonly": True, "isolation_level": "AUTOCOMMIT"}


def create_engine(url: str | URL | DatabaseURL, **options: Any) -> Engine:
    """SQLAlchemy's `create_engine`, whose transactions take one round trip for their first statement.

    `url` is any `postgres://` or `postgresql://` URL, whichever driver it names. `options` are SQLAlchemy's;
    the few that cannot work are refused by name. No environment variable and no file is read, except for
    the marks by which Vercel and Lambda are recognised: there the pool is tiny unless the options say more.
    Raise `DatabaseURLError` (a ValueError) for a URL that cannot be used.
    """
    return sqlalchemy.create_engine(_own_url(url), **_supported(url, options))


def create_async_engine(url: str | URL | DatabaseURL, **options: Any) -> AsyncEngine:
    """`create_engine` for async code."""
    return sqlalchemy_asyncio.create_async_engine(_own_url(url), **_supported(url, options))


class ReadingEngine(OptionEngine):
    """An engine whose connections only read, each statement in a transaction of its own.

    Execution options say the same, by a listener that each connection would be shown to.
    """

    def __init__(self, proxied: Engine, options: Mapping[str, Any] = NO_OPTIONS) -> None:
        super().__init__(proxied, options)
        self._execution_options = immutabledict({**READING, **self._execution_options})
        # What is made of it by `execution_options` reads, too.
        self._option_cls = ReadingEngine

    def raw_connection(self) -> PoolProxiedConnection:
        """A connection of the pool that reads until it goes back."""
        fairy: Any = super().raw_connection()
        preamble = self.dialect.preamble(fairy.dbapi_connection)  # type: ignore[attr-defined]  # the package's
        preamble.autocommit = preamble.read_only = True
        fairy._connection_record.finalize_callback.append(self._write_again)  # noqa: SLF001  (it has no other name)
        return fairy  # type: ignore[no-any-return]

    def _write_again(self, dbapi_connection: Any) -> None:
        dialect: Any = self.dialect
        dialect.reset_isolation_level(dbapi_connection)
        dialect.set_readonly(dbapi_connection, value=False)


def migration_engine(url: DatabaseURL) -> Engine:
    """A plain engine on the direct URL, which keeps no connection."""
    return sqlalchemy.create_engine(
        _sqlalchemy_url(url, "psycopg"), connect_args=connect_arguments(url), poolclass=NullPool
    )


def _own_url(url: Any) -> URL:
    if isinstance(url, URL):
        url = url.render_as_string(hide_password=False)
    if isinstance(url, str):
        url = DatabaseURL.parse(url)
    if not isinstance(url, DatabaseURL):
        raise DatabaseURLError(
            f"the URL is {'missing' if url is None else 'no text'}. "
            "Pass postgresql://user:password@host/database; if it comes from a variable, set that."
        )
    return _sqlalchemy_url(url, NAME)


def _sqlalchemy_url(url: DatabaseURL, driver: str) -> URL:
    return make_url(url.render(hide_password=False)).set(drivername=f"postgresql+{driver}")


def _supported(url: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    for name, remedy in _REFUSED.items():
        if options.get(name) is not None:
            raise TypeError(f"{name}: is not supported, since it would open other connections. {remedy}")
    supported = {name: value for name, value in options.items() if name not in _REFUSED}
    # The dialect says it again for each connection; here the line that is to be changed is in the traceback.
    driver_arguments(options.get("connect_args") or {})
    if plugins := [*supported.get("plugins", ()), *_plugins(url)]:
        supported["plugins"] = plugins
    return supported


def _plugins(url: Any) -> list[str]:
    """SQLAlchemy's own parameter of a URL."""
    text = url.render_as_string() if isinstance(url, URL) else str(url)
    return parse_qs(text.partition("?")[2]).get("plugin", [])
