"""onetrip: SQLAlchemy on Neon Postgres from serverless functions, one network round trip a transaction.

The names in `__all__` here and in `onetrip.fastapi` are the public ones; the modules below are internal and
change without notice. Every name is imported when it is first used, so that importing costs nothing.

`LAST` is an execution option for a transaction's last statement: the COMMIT goes with it. `SETTINGS` is the
execution option for run-time parameters that hold for each transaction: `{SETTINGS: {"app.user_id": "7"}}`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection.dialect import LAST, SETTINGS
    from .deadlines import Deadline, current_deadline, deadline
    from .errors import DeadlineExceededError, PoolExhaustedError, SecretError, SettingsError
    from .pool.database import Database, database, reset
    from .pool.engines import create_async_engine, create_engine
    from .retries import async_retry, retry
    from .session.batch import async_batch, batch
    from .session.compiled import compiled
    from .session.session import async_reading, async_transaction, reading, transaction
    from .settings.settings import Settings, load_settings
    from .sqlstate import Fault, Kind, classify
    from .url.database_url import DatabaseURL, DatabaseURLError

__version__ = "0.2.0"
__all__ = [
    "LAST",
    "SETTINGS",
    "Database",
    "DatabaseURL",
    "DatabaseURLError",
    "Deadline",
    "DeadlineExceededError",
    "Fault",
    "Kind",
    "PoolExhaustedError",
    "SecretError",
    "Settings",
    "SettingsError",
    "async_batch",
    "async_reading",
    "async_retry",
    "async_transaction",
    "batch",
    "classify",
    "compiled",
    "create_async_engine",
    "create_engine",
    "current_deadline",
    "database",
    "deadline",
    "load_settings",
    "reading",
    "reset",
    "retry",
    "transaction",
]

_MODULES = {
    "connection.dialect": ("LAST", "SETTINGS"),
    "deadlines": ("Deadline", "current_deadline", "deadline"),
    "errors": ("DeadlineExceededError", "PoolExhaustedError", "SecretError", "SettingsError"),
    "pool.database": ("Database", "database", "reset"),
    "pool.engines": ("create_async_engine", "create_engine"),
    "retries": ("async_retry", "retry"),
    "session.batch": ("async_batch", "batch"),
    "session.compiled": ("compiled",),
    "session.session": ("async_reading", "async_transaction", "reading", "transaction"),
    "settings.settings": ("Settings", "load_settings"),
    "sqlstate": ("Fault", "Kind", "classify"),
    "url.database_url": ("DatabaseURL", "DatabaseURLError"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
