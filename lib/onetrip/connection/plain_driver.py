"""`DATABASE_SINGLE_FLIGHT=off`: the plain driver, with the same settings sent after its BEGIN."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.util import await_only

from .dialect import COMPANION, SETTINGS
from .preamble import settings_statement, timeouts


def install(engine: Engine) -> None:
    """Send timeouts, settings and the companion at the start of each of the engine's transactions."""
    event.listen(engine, "begin", _send_settings)


def _send_settings(connection: Connection) -> None:
    options = connection.get_execution_options()
    statements = [settings_statement({**timeouts(), **options.get(SETTINGS, {})})]
    if companion := options.get(COMPANION):
        statements.append(companion)
    driver: Any = connection.connection.driver_connection
    for statement in statements:
        sent = driver.execute(*statement)
        if connection.dialect.is_async:
            await_only(sent)
