"""The objects that the package keeps for one application, found from any of its requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import FastAPI

from ..health.probe import Probe
from ..settings.settings import Settings
from .recent_requests import RecentRequests

if TYPE_CHECKING:
    from ..pool.database import Database


@dataclass(slots=True)
class Services:
    """The settings, the probe, the last requests and the database of one application."""

    settings: Settings
    probe: Probe
    database: Database | None = None
    recent: RecentRequests = field(default_factory=RecentRequests)


def services_of(app: FastAPI) -> Services:
    """The services of an application that `install` was called with."""
    services: Services = app.state.onetrip
    return services
