"""`DATABASE_SINGLE_FLIGHT=off`: the plain driver, with the same settings sent after its BEGIN."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.util import await_only

from lib.dialect import SETTINGS
from lib.flight import settings_statement, timeouts


def install(engine: Engine) -> None:
    """Send timeouts and `postgresql_settings` at the start of each of the engine's transactions."""
    event.listen(engine, "begin", _send_settings)


def _send_settings(connection: Connection) -> None:
    settings = {**timeouts(), **connection.get_execution_options().get(SETTINGS, {})}
    driver: Any = connection.connection.driver_connection
    sent = driver.execute(*settings_statement(settings))
    if connection.dialect.is_async:
        await_only(sent)
