"""What the other end of a connection said while nobody listened, without asking it anything."""

from __future__ import annotations

import select

import psycopg


class ClosedByServerError(Exception):
    """The peer ended the connection."""


def has_unread_data(pgconn: psycopg.pq.abc.PGconn) -> bool:
    """Whether the peer said something since; raise `HungUpError` if it ended the connection."""
    spoke = False
    try:
        # Not `select`, which knows no file number above 1,023.
        look = select.poll()
        look.register(pgconn.socket, select.POLLIN)
        while look.poll(0):
            pgconn.consume_input()
            # It may be a notice, or a goodbye whose end of the connection is still under way.
            spoke = True
    except (psycopg.OperationalError, OSError, ValueError):
        raise ClosedByServerError from None
    return spoke
