"""The objects that the package keeps for one application, found from any of its requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from ..errors import UsageError
from ..health.probe import Probe
from ..observability.recent_requests import RecentRequests
from ..settings.settings import Settings

if TYPE_CHECKING:
    from ..pool.database import Database

# The key in ASGI's scope: an application that is mounted into another one has a state of its own.
SCOPE_KEY = "onetrip"


@dataclass(slots=True, eq=False, repr=False)
class Services:
    """The settings, the probe, the last requests and the database of one application."""

    settings: Settings
    probe: Probe
    database: Database | None = None
    recent: RecentRequests = field(default_factory=RecentRequests)


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that serves a request or WebSocket, or of the one it is mounted in."""
    services: Services | None = connection.scope.get(SCOPE_KEY)
    if services is None:
        raise UsageError(
            "No database was installed for this application. Call onetrip.fastapi.install(app, database) "
            "for it, or for the application that it is mounted in."
        )
    return services
