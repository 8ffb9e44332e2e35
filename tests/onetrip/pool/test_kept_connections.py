"""The leftovers of one request on a client's connection do not reach the next."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings
from tests.onetrip.application import create_app
from tests.onetrip.network import until
from tests.onetrip.served import served

AUTHORS = "/authors"
DEADLINE_SECONDS = 2.0
# More than the server takes in advance: it stops reading, and goes on for the route that wants the rest.
LONG = b'{"name": "' + b"x" * 900_000 + b'"}'


def test_the_deadline_of_a_long_body_does_not_hold_for_who_comes_next(
    make_settings: Callable[..., Settings],
) -> None:
    """A proxy keeps its connections for many clients: a long body of one takes no time from the others."""
    database = Database(make_settings(REQUEST_TIMEOUT_SECONDS=DEADLINE_SECONDS))
    new = {"name": "ada", "email": "ada@example.com"}
    with served(create_app(database)) as url, closing(HTTPConnection(urlsplit(url).netloc)) as connection:

        def post(body: bytes) -> int:
            connection.request("POST", AUTHORS, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            return response.status

        assert post(LONG) == 422
        over = time.monotonic() + DEADLINE_SECONDS
        socket = connection.sock
        until(lambda: time.monotonic() > over)
        assert post(json.dumps(new).encode()) == 201
        assert connection.sock is socket
    database.close()
