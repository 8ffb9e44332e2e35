"""A TLS handshake with PostgreSQL by the standard library, which reports why a certificate is refused.

libpq reports only that verification failed.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..deadlines import Deadline
from ..url.database_url import DatabaseURL

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_YES, _NO = b"S", b"N"


class NoTLSError(Exception):
    """The server declined TLS."""


class NotPostgreSQLError(Exception):
    """The server speaks another protocol."""


@dataclass(frozen=True, slots=True)
class Secured:
    """The negotiated protocol, and the expiry of the certificate if it was checked."""

    protocol: str
    expires: datetime | None


def secure(raw: socket.socket, url: DatabaseURL, until: Deadline) -> Secured:
    """Make the TLS handshake on `raw` as libpq would for `url`, and close the socket."""
    with raw:
        raw.settimeout(max(0.01, until.seconds_left))
        direct = url.parameters.get("sslnegotiation") == "direct"
        context = _context(url, direct=direct)
        if not direct:
            _ask(raw)
        raw.settimeout(max(0.01, until.seconds_left))
        with context.wrap_socket(raw, server_hostname=url.host) as line:
            certificate = line.getpeercert() or {}
            ends = str(certificate["notAfter"]) if "notAfter" in certificate else None
            expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) if ends else None
            return Secured(line.version() or "TLS", expires)


def _ask(raw: socket.socket) -> None:
    raw.sendall(_SSL_REQUEST)
    answer = raw.recv(1)
    if not answer:
        raise ConnectionResetError
    if answer == _NO:
        raise NoTLSError
    if answer != _YES:
        raise NotPostgreSQLError


def _context(url: DatabaseURL, *, direct: bool) -> ssl.SSLContext:
    """Build the TLS context that libpq would use for the URL's parameters."""
    mode, authority = url.parameters.get("sslmode", "prefer"), url.parameters.get("sslrootcert")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    # libpq checks in mode `require` too, if an authority is named.
    if not mode.startswith("verify") and not (mode == "require" and authority and Path(authority).is_file()):
        context.verify_mode = ssl.CERT_NONE
    elif authority == "system":
        context.load_default_certs()
    else:
        context.load_verify_locations(_existing(authority or "~/.postgresql/root.crt"))
    if certificate := url.parameters.get("sslcert"):
        key = _existing(url.parameters.get("sslkey") or certificate)
        context.load_cert_chain(_existing(certificate), key, lambda: url.parameters.get("sslpassword", ""))
    if direct:
        context.set_alpn_protocols(["postgresql"])
    return context


def _existing(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(2, "not there", path)
    return str(file)
