"""The keys that an identity provider signs with, read from its JWKS document and kept.

A known key costs no network: it is read again in the background from time to time, and refused once the
document could not be read for an hour. An unknown one makes a request wait for the document, for seconds at
most and once in a while: a flood of invented names reads nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from lib.example.identity import UnavailableError
from lib.onetrip.deadlines import current_deadline
from lib.onetrip.platform import ca_file

if TYPE_CHECKING:
    from http.client import HTTPConnection

    import jwt

# The document is read again after the first, and its keys are refused after the second.
FRESH_SECONDS, KEPT_SECONDS = 600.0, 3600.0
# One reading takes this long at most, and the next begins no sooner.
READ_SECONDS, PAUSE_SECONDS = 3.0, 10.0
MAX_BYTES, MAX_KEYS = 262_144, 100
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
_OK = 200
_PORTS = {"http": 80, "https": 443}

logger = logging.getLogger(__name__)


class KeySet:
    """The public keys of the JWKS document at `url`, by their names."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = -float("inf")
        self._lock = threading.Lock()
        self._reading: Future[None] | None = None

    async def key(self, name: str) -> jwt.PyJWK | None:
        """The key of this name, None if the document has none; `UnavailableError` without a document."""
        known = self._known(name)
        if known is None or self._age >= FRESH_SECONDS:
            reading = self._begin()
            if known is None and reading is not None:
                await _wait(reading)
                known = self._known(name)
        if known is None and self._age >= KEPT_SECONDS:
            raise UnavailableError(PAUSE_SECONDS)
        return known

    @property
    def _age(self) -> float:
        return time.monotonic() - self._read_at

    def _known(self, name: str) -> jwt.PyJWK | None:
        return self._keys.get(name) if self._age < KEPT_SECONDS else None

    def _begin(self) -> Future[None] | None:
        """The reading that is under way, or a new one; None if the last has only just ended."""
        with self._lock:
            now = time.monotonic()
            # A name server that is silent, or a fork, may have left one that does not end.
            if self._reading and not self._reading.done() and now - self._tried_at < READ_SECONDS:
                return self._reading
            if now - self._tried_at < PAUSE_SECONDS:
                return None
            self._tried_at = now
            reading: Future[None] = Future()
            self._reading = reading
        threading.Thread(target=self._read, args=(reading,), name="jwks", daemon=True).start()
        return reading

    def _read(self, reading: Future[None]) -> None:
        try:
            keys = _usable(_document(self._url))
        # Whatever a document or a network does, the keys of before stay for their time.
        except Exception as error:  # noqa: BLE001  (above)
            logger.warning("IDENTITY_JWKS_URL: the keys could not be read (%s).", type(error).__name__)
        else:
            self._keys, self._read_at = keys, time.monotonic()
        finally:
            reading.set_result(None)


async def _wait(reading: Future[None]) -> None:
    """Wait for a reading, as long as it may take and the request lasts; others go on waiting for it."""
    deadline = current_deadline()
    seconds = READ_SECONDS if deadline is None else min(READ_SECONDS, deadline.seconds_left)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(reading)), seconds)


def _document(url: str) -> Any:
    """The JSON at `url`, read within `READ_SECONDS`; no redirect is followed."""
    from http.client import HTTPConnection  # noqa: PLC0415  (where a token needs it)

    place = urlsplit(url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=READ_SECONDS)
    # The timeout of a socket is for each of its waits: a peer that sends a byte now and then has many.
    end = threading.Timer(READ_SECONDS, _cut, [connection])
    end.daemon = True
    end.start()
    try:
        _connect(connection, place)
        target = f"{place.path or '/'}{f'?{place.query}' if place.query else ''}"
        connection.request("GET", target, headers={"Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        body = response.read(MAX_BYTES + 1)
        if response.status != _OK or len(body) > MAX_BYTES:
            raise ValueError
        return json.loads(body)
    finally:
        end.cancel()
        connection.close()


def _connect(connection: HTTPConnection, place: SplitResult) -> None:
    """Connect, and encrypt what follows; the handshake comes last, when the socket can be cut."""
    connection.port = place.port or _PORTS[place.scheme]
    connection.connect()
    if place.scheme == "https":
        context = ssl.create_default_context(cafile=ca_file())
        connection.sock = secure = context.wrap_socket(
            connection.sock, server_hostname=place.hostname, do_handshake_on_connect=False
        )
        secure.do_handshake()


def _cut(connection: HTTPConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _usable(document: Any) -> dict[str, jwt.PyJWK]:
    """The keys of a document that can verify what we take; of those that cannot, none is an error."""
    if not isinstance(document, dict) or not isinstance(listed := document.get("keys"), list):
        raise TypeError
    found = {}
    for entry in listed[:MAX_KEYS]:
        if isinstance(entry, dict) and (key := _key(entry)):
            found[str(entry["kid"])] = key
    if not found:
        raise ValueError
    return found


def _key(entry: dict[str, Any]) -> jwt.PyJWK | None:
    """A public key with a name, for the one algorithm of its type; never a secret that two share."""
    import jwt  # noqa: PLC0415  (as above)

    algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(str(entry.get("kty")))
    name, use = entry.get("kid"), entry.get("use", "sig")
    if algorithm is None or not isinstance(name, str) or use != "sig":
        return None
    if entry.get("alg", algorithm) != algorithm or not _fits(entry):
        return None
    public = {member: value for member, value in entry.items() if member in _PUBLIC}
    with suppress(jwt.PyJWTError, ValueError, TypeError, OverflowError):
        key = jwt.PyJWK(public, algorithm=algorithm)
        bits = getattr(key.key, "key_size", 0)
        if algorithm != "RS256" or MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            return key
    return None


# Without the private part, should a document show one.
_PUBLIC = {"kty", "kid", "n", "e", "crv", "x", "y"}
_CURVES = {"EC": "P-256", "OKP": "Ed25519"}


def _fits(entry: dict[str, Any]) -> bool:
    wanted = _CURVES.get(entry["kty"])
    return wanted is None or entry.get("crv") == wanted
