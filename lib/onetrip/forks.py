"""Connections are not shared with child processes: two processes on one socket read each other's answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

_open: WeakSet[Any] = WeakSet()


def detach_in_children(connection: Any) -> None:
    """Let a forked child find the connection (anything with a `pgconn`) closed; the parent keeps it."""
    _open.add(connection)


def _detach() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for connection in list(_open):
            # The number of the socket now means something that ends at once. Closing the connection would
            # end the session in the parent's name.
            with suppress(Exception):
                os.dup2(nowhere, connection.pgconn.socket)
    finally:
        os.close(nowhere)


def after_in_child(act: Callable[[], object]) -> None:
    """Run `act` in each child process that is forked from now on, where the system can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=act)


after_in_child(_detach)
