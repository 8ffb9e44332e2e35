"""Opening connections: to the first server that lets us in, again while it is worth it, in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg

from lib import retry
from lib.connection import BoundedAsyncConnection, BoundedConnection
from lib.deadline import deadline

# For all attempts together, where no request's deadline is shorter.
BUDGET_SECONDS = 15.0
# A replica gets this long before the primary is used instead, and is left alone for a while after.
REPLICA_SECONDS = 2.0
REPLICA_REST_SECONDS = 30.0

logger = logging.getLogger(__name__)
Arguments = dict[str, Any]


def connector(
    connection_class: type[BoundedConnection], servers: Sequence[Arguments]
) -> Callable[[], BoundedConnection]:
    """What opens a connection to the last of `servers` (psycopg's arguments), or to a replica before it."""
    replica = _Replica(servers)

    def connect() -> BoundedConnection:
        if replica.is_worth_a_try:
            try:
                with deadline(REPLICA_SECONDS):
                    return connection_class.connect(**servers[0])
            except psycopg.OperationalError:
                replica.rest()
        with deadline(BUDGET_SECONDS):
            return retry.connecting(lambda: connection_class.connect(**servers[-1]))

    return connect


def async_connector(
    connection_class: type[BoundedAsyncConnection], servers: Sequence[Arguments]
) -> Callable[..., Awaitable[BoundedAsyncConnection]]:
    """`connector` for async code."""
    replica = _Replica(servers)

    async def connect(**_: Any) -> BoundedAsyncConnection:
        if replica.is_worth_a_try:
            try:
                with deadline(REPLICA_SECONDS):
                    return await connection_class.connect(**servers[0])
            except psycopg.OperationalError:
                replica.rest()
        with deadline(BUDGET_SECONDS):
            return await retry.async_connecting(lambda: connection_class.connect(**servers[-1]))

    return connect


class _Replica:
    """Whether there is a replica, and whether it was found down a moment ago."""

    def __init__(self, servers: Sequence[Arguments]) -> None:
        self._exists = len(servers) > 1
        self._rests_until = 0.0

    @property
    def is_worth_a_try(self) -> bool:
        return self._exists and time.monotonic() >= self._rests_until

    def rest(self) -> None:
        self._rests_until = time.monotonic() + REPLICA_REST_SECONDS
        logger.warning("the replica is down; the primary is read for %.0f s", REPLICA_REST_SECONDS)
