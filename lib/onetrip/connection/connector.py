"""Opening connections: to the first server that lets us in, again while it is worth it, in time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg.pq.abc import PGconn

from .. import retries
from ..deadlines import deadline
from ..observability.request_stats import stats_or_discard
from ..process import process
from ..url.database_url import DatabaseURL
from . import early as early_connection
from .bounded import BoundedAsyncConnection, BoundedConnection
from .conninfo import connection_parameters
from .source import URLSource

# All attempts to connect together, where no request's deadline is shorter.
BUDGET_SECONDS = 15.0
# A replica gets this long before the primary is used instead, and is left alone for a while after.
REPLICA_SECONDS = 2.0
REPLICA_REST_SECONDS = 30.0

C = TypeVar("C", BoundedConnection, BoundedAsyncConnection)

logger = logging.getLogger(__name__)


def connect_arguments(url: DatabaseURL) -> dict[str, Any]:
    """The arguments that every connection, sync or async, is opened with; the URL's own parameters win."""
    return {
        **connection_parameters(url),
        # A prepared statement belongs to one server connection, and a pooler hands out another.
        "prepare_threshold": None,
    }


def connector(
    connection_class: type[BoundedConnection], source: URLSource, replica_url: DatabaseURL | None = None
) -> Callable[[], BoundedConnection]:
    """Return the function that connects to the URL of `source`, or first to a replica."""
    replica = _Replica(replica_url)

    def connect_to(url: DatabaseURL) -> BoundedConnection:
        return connection_class.connect(**connect_arguments(url))

    def connect() -> BoundedConnection:
        with process.cold_start.phase("connect"), stats_or_discard().connecting():
            return connection()

    def connection() -> BoundedConnection:
        if replica.url and replica.is_worth_a_try:
            try:
                with deadline(REPLICA_SECONDS):
                    return connect_to(replica.url)
            except psycopg.OperationalError:
                replica.rest()
        with deadline(BUDGET_SECONDS):
            if pgconn := early_connection.take(source):
                return _adopted(connection_class, pgconn)
            return retries.connecting(lambda: _logged_in(connect_to, source))

    return connect


def async_connector(
    connection_class: type[BoundedAsyncConnection], source: URLSource, replica_url: DatabaseURL | None = None
) -> Callable[..., Awaitable[BoundedAsyncConnection]]:
    """`connector` for async code."""
    replica = _Replica(replica_url)

    async def connect_to(url: DatabaseURL) -> BoundedAsyncConnection:
        return await connection_class.connect(**connect_arguments(url))

    async def connect(**_: Any) -> BoundedAsyncConnection:
        with process.cold_start.phase("connect"), stats_or_discard().connecting():
            return await connection()

    async def connection() -> BoundedAsyncConnection:
        if replica.url and replica.is_worth_a_try:
            try:
                with deadline(REPLICA_SECONDS):
                    return await connect_to(replica.url)
            except psycopg.OperationalError:
                replica.rest()
        with deadline(BUDGET_SECONDS):
            if pgconn := await asyncio.to_thread(early_connection.take, source):
                return _adopted(connection_class, pgconn)
            return await retries.async_connecting(lambda: _async_logged_in(connect_to, source))

    return connect


def _logged_in(
    connect_to: Callable[[DatabaseURL], BoundedConnection], source: URLSource
) -> BoundedConnection:
    """A connection to where `source` says, or, if its login is refused, to where it says then."""
    url = source.current()
    try:
        return connect_to(url)
    except psycopg.OperationalError as error:
        newer = source.refreshed(url) if retries.refuses_login(error) else None
        if newer is None:
            raise
    return connect_to(newer)


async def _async_logged_in(
    connect_to: Callable[[DatabaseURL], Awaitable[BoundedAsyncConnection]], source: URLSource
) -> BoundedAsyncConnection:
    url = source.known
    if url is None:
        url = await asyncio.to_thread(source.current)
    try:
        return await connect_to(url)
    except psycopg.OperationalError as error:
        newer = await asyncio.to_thread(source.refreshed, url) if retries.refuses_login(error) else None
        if newer is None:
            raise
    return await connect_to(newer)


def _adopted(connection_class: type[C], pgconn: PGconn) -> C:
    connection = connection_class(pgconn)
    connection.prepare_threshold = None
    # It was opened some time ago.
    connection.used_at = 0.0
    return connection


class _Replica:
    """The replica's URL, if there is one, and whether it was found down a moment ago."""

    def __init__(self, url: DatabaseURL | None) -> None:
        self.url = url
        self._rests_until = 0.0

    @property
    def is_worth_a_try(self) -> bool:
        return time.monotonic() >= self._rests_until

    def rest(self) -> None:
        self._rests_until = time.monotonic() + REPLICA_REST_SECONDS
        logger.warning("the replica is down; the primary is read for %.0f s", REPLICA_REST_SECONDS)
