"""Checks of the network path to the server: name, port, certificate."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import UTC, datetime, timedelta

from ..deadlines import Deadline, current_deadline
from .context import Case
from .result import Finding, ok, warning, wrong
from .tls import NoTLSError, NotPostgreSQLError, Secured, secure

_PORT = 5432
# A certificate that expires this soon was probably forgotten.
_SOON = timedelta(days=7)
_ALLOW = "Let this machine through: Neon's IP allow list, a security group, a firewall, the VPC's way out."
_NAME_IT = "Name the authority's certificate in the URL: sslrootcert=…, a file in PEM."
_RENEW = "Have the certificate renewed on the server; check this machine's clock."
_OTHER_HOST = "Use the host name that the certificate names."
# OpenSSL's codes for refused certificates, each with its meaning and remedy.
_CERTIFICATES = {
    9: ("the certificate is not valid yet", _RENEW),
    10: ("the certificate has expired", _RENEW),
    18: (
        "the certificate is self-signed",
        "Name it in the URL (sslrootcert=…), or have an authority sign it.",
    ),
    19: ("the certificate's authority is not trusted", _NAME_IT),
    20: ("the certificate's authority is not known", _NAME_IT),
    62: ("the certificate is for another host", _OTHER_HOST),
    64: ("the certificate is for another address", _OTHER_HOST),
}


def check_dns(case: Case) -> Finding:
    """Check that the host has an address."""
    url = case.url
    host, port = url.parameters.get("hostaddr") or url.host, url.port or _PORT
    if host is None or host.startswith(("/", "@")):
        case.address = f"{host}/.s.PGSQL.{port}" if host else None
        return ok("a unix socket, no name to look up" if host else "no host is named, libpq chooses one")
    begin = time.perf_counter()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            return wrong(f"the name server did not resolve {host}", "Check this machine's network and DNS.")
        return wrong(f"{host} is unknown", "Check the host in the URL against the one in Neon's console.")
    except UnicodeError:
        return wrong(
            f"{host} is no host name", "Check the host in the URL against the one in Neon's console."
        )
    milliseconds = (time.perf_counter() - begin) * 1000
    case.addresses = list(dict.fromkeys((str(entry[4][0]), port) for entry in found))
    return ok(f"{host} is {', '.join(address for address, _ in case.addresses)} ({milliseconds:.0f} ms)")


def check_tcp(case: Case) -> Finding:
    """Check that a server listens at the address."""
    places: list[tuple[str, int] | str] = [*case.addresses] or ([case.address] if case.address else [])
    if not places or str(places[0]).startswith("@"):
        return ok("left to libpq")
    problems: list[tuple[str, str]] = []
    for number, place in enumerate(places):
        begin = time.perf_counter()
        try:
            open_socket(place, _left().seconds_left / (len(places) - number)).close()
        except OSError as error:
            problems.append(_unreached(place, error))
            continue
        case.address = place
        return ok(f"{_name(place)} listens ({(time.perf_counter() - begin) * 1000:.1f} ms)")
    return wrong(*problems[0])


def open_socket(place: tuple[str, int] | str, seconds: float) -> socket.socket:
    """Connect to an address or a unix socket; each step takes at most `seconds`."""
    if isinstance(place, tuple):
        return socket.create_connection(place, timeout=max(0.01, seconds))
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(seconds)
    try:
        raw.connect(place)
    except OSError:
        raw.close()
        raise
    return raw


def _unreached(place: tuple[str, int] | str, error: OSError) -> tuple[str, str]:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return (
            f"no server listens at {_name(place)}",
            "Start the server, or correct the host or port in the URL.",
        )
    if isinstance(error, TimeoutError):
        return f"{_name(place)} does not answer: packets are dropped on the way", _ALLOW
    return f"{_name(place)} cannot be reached ({error.strerror or type(error).__name__})", _ALLOW


def _name(place: tuple[str, int] | str) -> str:
    return place if isinstance(place, str) else f"{place[0]} port {place[1]}"


def check_tls(case: Case) -> Finding:
    """Check that TLS works as the URL demands, and that the certificate is accepted."""
    url, place = case.url, case.address
    mode = url.parameters.get("sslmode", "prefer")
    if not isinstance(place, tuple) or mode == "disable":
        return ok("none: the connection does not leave this machine" if url.is_local else "left to libpq")
    try:
        found = secure(open_socket(place, _left().seconds_left), url, _left())
    except NoTLSError:
        if mode in {"allow", "prefer"}:
            return ok("none, and none is demanded of a server on this machine")
        return wrong(
            f"the server speaks no TLS, and {mode} demands it", "Turn TLS on in the server or pooler."
        )
    except NotPostgreSQLError:
        return wrong(
            f"the server at {_name(place)} is not PostgreSQL", "Correct the host or port in the URL."
        )
    except OSError as error:
        return wrong(*_failure(error, mode))
    return _judged(found, mode)


def _failure(error: OSError, mode: str) -> tuple[str, str]:
    """Return the reason why TLS failed, and its remedy."""
    match error:
        case ssl.SSLCertVerificationError():
            unknown = f"the certificate is refused: {error.verify_message}", "Have it replaced."
            says, remedy = _CERTIFICATES.get(error.verify_code, unknown)
            said = f"{says}, and {mode} checks it", remedy
        case FileNotFoundError():
            said = f"{error.filename} is not there", "Correct sslrootcert, sslcert or sslkey in the URL."
        case TimeoutError():
            said = (
                "the host accepts the connection and then sends nothing",
                "Check that this is PostgreSQL's port; restart the server (on Neon look at its status page).",
            )
        case ssl.SSLError():
            said = f"TLS failed ({error.reason or 'no reason given'})", "Check what listens at this port."
        case _:
            said = f"the host closes the connection in the handshake ({type(error).__name__})", _ALLOW
    return said


def _judged(found: Secured, mode: str) -> Finding:
    if found.expires is None:
        return ok(f"{found.protocol}, certificate not checked ({mode}; DATABASE_TLS=verify-full does)")
    says = f"{found.protocol}, certificate valid until {found.expires:%Y-%m-%d} ({mode})"
    if found.expires - datetime.now(UTC) < _SOON:
        return warning(says, "Have the certificate renewed before that day.")
    return ok(says)


def _left() -> Deadline:
    return current_deadline() or Deadline.after(2)
