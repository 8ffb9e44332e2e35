"""Findings for the operator: problems of this process, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..pool.database import Database
from .probe import Report


class Finding(NamedTuple):
    """A problem and its remedy."""

    what: str
    remedy: str


def findings(database: Database, report: Report | None) -> Iterator[Finding]:
    """Yield the problems that are known already; nothing is queried for them."""
    if report:
        yield from _about_server(report)
    yield from _about_settings(database)
    yield from _about_pool(database)


def _about_server(report: Report) -> Iterator[Finding]:
    if report.status == "waking":
        yield Finding(
            "The database is waking up.", "Wait some seconds: requests are tried again until their deadline."
        )
    if report.status == "busy":
        yield Finding(
            "Every connection of this process is in use, so the database was not queried.",
            "See the longest checkouts below; keep slow work out of sessions.",
        )
    if report.status == "down":
        yield Finding(
            "The database does not answer.",
            "The log has the reason; make doctor, with this instance's variables, has the remedy.",
        )
    if report.schema == "behind":
        yield Finding(
            "The schema is behind this code.", "Run make migrate with this database's DATABASE_URL."
        )
    if report.schema == "ahead":
        yield Finding("The schema is ahead of this code.", "Deploy the code that the migration was made for.")


def _about_settings(database: Database) -> Iterator[Finding]:
    settings = database.settings
    if settings.platform.is_serverless and settings.mode == "direct":
        yield Finding(
            "Instances multiply here, and each connects directly.",
            "Set DATABASE_MODE=pooled, or the server runs out of connections.",
        )
    if not database.single_flight:
        yield Finding(
            "Every transaction costs more round trips than it needs.", "Unset DATABASE_SINGLE_FLIGHT."
        )
    if settings.database_echo:
        yield Finding("Statements are logged with their data.", "Unset DATABASE_ECHO.")


def _about_pool(database: Database) -> Iterator[Finding]:
    limiter, watch = database.limiter, database.pool_watch
    if limiter.waiting:
        yield Finding(
            f"Requests are waiting for a connection: {limiter.waiting}.",
            "Keep slow work out of sessions, or raise DATABASE_POOL_SIZE within the server's limit.",
        )
    if limiter.refused:
        yield Finding(
            f"Requests were rejected because no connection was free: {limiter.refused}.",
            "The same; DATABASE_POOL_TIMEOUT is how many seconds they wait.",
        )
    for checkout in watch.longest(1):
        if checkout["held_seconds"] >= database.settings.leak_seconds:
            yield Finding(
                f"A connection has been checked out for {checkout['held_seconds']:.0f} s "
                f"by {checkout['held_by_route'] or 'no request'}.",
                "The log has its call stack: end the session there, or raise CONNECTION_LEAK_SECONDS.",
            )
