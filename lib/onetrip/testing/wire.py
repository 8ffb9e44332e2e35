"""Round trips of one connection, read from libpq's own trace of its messages."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

# A message of the trace: its direction, its length, its name. A text may go on in further lines.
# The last message of a session awaits no answer.
_MESSAGE = re.compile(rb"^([FB])\t\d+\t(?!Terminate)[A-Z]", re.MULTILINE)


class Wire:
    """The messages of a connection of psycopg's, sync or async, from now on.

    A round trip is what is sent after something was received, as a proxy on the wire would count it.
    """

    def __init__(self, connection: Any) -> None:
        from psycopg.pq import Trace  # noqa: PLC0415  (the driver is needed for counting only)

        self._connection = connection
        # Written by libpq, which keeps this descriptor's position; read here by position.
        self._trace = os.memfd_create("round-trips")
        self._seen = 0
        self._answered = True
        connection.pgconn.trace(self._trace)
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)

    def trips(self) -> int:
        """The round trips since this was last asked."""
        text = os.pread(self._trace, os.fstat(self._trace).st_size - self._seen, self._seen)
        self._seen += len(text)
        trips = 0
        for direction in _MESSAGE.findall(text):
            trips += direction == b"F" and self._answered
            self._answered = direction == b"B"
        return trips

    def close(self) -> None:
        """Stop, whether the connection is still open or not."""
        if not self._connection.closed:
            self._connection.pgconn.untrace()
        os.close(self._trace)


def is_supported() -> bool:
    """Return True if this system's libpq can write a trace: psycopg offers it on Linux."""
    return sys.platform == "linux"
