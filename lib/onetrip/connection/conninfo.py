"""libpq's parameters of every connection, built before psycopg is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..url.database_url import DatabaseURL

APPLICATION_NAME = "onetrip"
# One attempt to connect.
CONNECT_TIMEOUT_SECONDS = 10
# A host that is gone is given up after three seconds, whether it was sent something or is waited for.
_SILENCE = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 3, "tcp_user_timeout": 3000}


def connection_parameters(url: DatabaseURL) -> dict[str, Any]:
    """Libpq's parameters for `url`; the URL's own win over ours."""
    ours = {"application_name": APPLICATION_NAME, "connect_timeout": CONNECT_TIMEOUT_SECONDS}
    return {**ours, **_SILENCE, **url.connect_arguments()}


def conninfo(parameters: Mapping[str, Any]) -> str:
    """The parameters as libpq reads them: `host='…' password='…'`, the password in the clear."""
    return " ".join(f"{name}='{_escaped(str(value))}'" for name, value in parameters.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
