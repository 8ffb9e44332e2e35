"""Connect arguments as applications have them: libpq's, psycopg's, and asyncpg's said in libpq's words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..url.database_url import DatabaseURL

# asyncpg's cache of prepared statements, which is turned off behind a pooler; nothing is cached here.
_NEEDLESS = frozenset(
    {
        "max_cached_statement_lifetime",
        "max_cacheable_statement_size",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        "statement_cache_size",
    }
)


def driver_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for psycopg; raise TypeError, with the remedy, for those that it has no words for."""
    arguments: dict[str, Any] = {}
    for name, value in given.items():
        if name in _TRANSLATIONS:
            arguments.update(_TRANSLATIONS[name](value))
        elif name not in _NEEDLESS:
            arguments[name] = value
    _check_tls(arguments)
    return arguments


def _check_tls(arguments: Mapping[str, Any]) -> None:
    """Refuse what could send data in the clear to a remote host, as in a URL."""
    names = ("hostaddr", "sslmode")
    parameters = {name: str(arguments[name]) for name in names if arguments.get(name)}
    DatabaseURL(host=arguments.get("host"), parameters=parameters).secured()


def _tls(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"sslmode": "require" if value else "disable"}
    if isinstance(value, str):
        return {"sslmode": value}
    raise _refusal(
        "ssl",
        "a TLS context is not libpq's. Use sslmode=verify-full in the URL, sslrootcert for a CA of your own.",
    )


def _connect_timeout(value: Any) -> dict[str, Any]:
    # libpq knows whole seconds, and takes 1 for 2.
    return {} if value is None else {"connect_timeout": max(2, math.ceil(value))}


def _command_timeout(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    raise _refusal(
        "command_timeout",
        "is asyncpg's. Put `with onetrip.deadline(seconds):` around the work, "
        "or set statement_timeout for the role.",
    )


def _server_settings(value: Any) -> dict[str, Any]:
    settings = dict(value or {})
    name = settings.pop("application_name", None)
    if settings:
        raise _refusal(
            "server_settings",
            f"{', '.join(sorted(settings))} would not reach the server through a pooler. "
            "Set them for the role, or for each transaction: create_engine(url, execution_options="
            "{onetrip.SETTINGS: {...}}).",
        )
    return {"application_name": name} if name else {}


def _autocommit(value: Any) -> dict[str, Any]:
    if value:
        raise _refusal("autocommit", 'is SQLAlchemy\'s to say. Use isolation_level="AUTOCOMMIT".')
    return {}


def _refusal(name: str, text: str) -> TypeError:
    return TypeError(f"connect_args[{name!r}]: {text}")


_TRANSLATIONS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "autocommit": _autocommit,
    "command_timeout": _command_timeout,
    "server_settings": _server_settings,
    "ssl": _tls,
    "timeout": _connect_timeout,
}
