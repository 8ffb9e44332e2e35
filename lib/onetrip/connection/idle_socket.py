"""A check of an idle socket without blocking: unread data, or closed by the server."""

from __future__ import annotations

import select

import psycopg


class ClosedByServerError(Exception):
    """The peer ended the connection."""


def has_unread_data(pgconn: psycopg.pq.abc.PGconn) -> bool:
    """Return True for unread data; raise `ClosedByServerError` if the server closed the connection."""
    spoke = False
    try:
        # Not `select`, which knows no file number above 1,023.
        look = select.poll()
        look.register(pgconn.socket, select.POLLIN)
        while look.poll(0):
            pgconn.consume_input()
            # It may be a notice, or a last message before the end of the connection.
            spoke = True
    except (psycopg.OperationalError, OSError, ValueError):
        raise ClosedByServerError from None
    return spoke
