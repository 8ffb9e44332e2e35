"""The text of a PostgreSQL URL, taken apart as libpq does it.

No message repeats a part of the text that could be a password.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

# Every parameter that libpq 18 takes in a URL, less those that are fields of their own below.
# Other parameters are meant for other programs (Prisma, asyncpg) and are dropped.
LIBPQ_PARAMETERS = frozenset(
    """
    application_name channel_binding client_encoding connect_timeout fallback_application_name
    gssdelegation gssencmode gsslib hostaddr keepalives keepalives_count keepalives_idle
    keepalives_interval krbsrvname load_balance_hosts max_protocol_version min_protocol_version
    oauth_client_id oauth_client_secret oauth_issuer oauth_scope options passfile replication
    require_auth requirepeer scram_client_key scram_server_key service ssl_max_protocol_version
    ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslkeylogfile
    sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout
    """.split()  # noqa: SIM905  (quoting each would hide the list)
)
# What libpq would refuse only when it connects, once for each request.
WHOLE_NUMBERS = frozenset(
    {
        "connect_timeout",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "tcp_user_timeout",
    }
)
CHOICES = {
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "load_balance_hosts": ("disable", "random"),
    "sslcertmode": ("disable", "allow", "require"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
# libpq lets the query override the authority: `?host=/run/postgresql` is the usual case.
_OVERRIDES = frozenset({"user", "password", "host", "port", "dbname"})
_SCHEMES = frozenset({"postgres", "postgresql"})
_DRIVERS = frozenset({"", "asyncpg", "onetrip", "psycopg", "psycopg2", "psycopg_async"})
# `ssl=true` and its like, said in libpq's words.
_SSL_VALUES = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable"}
_HINT = "If the password holds / or ?, write %2F or %3F."


class DatabaseURLError(ValueError):
    """A URL that cannot be used; the message says why and what to do, never the password."""


class URLParts(NamedTuple):
    """The parts of a URL, decoded; None for a missing one."""

    user: str | None
    password: str | None
    host: str | None
    port: int | None
    database: str | None
    parameters: dict[str, str]
    dropped: tuple[str, ...]


def read(text: str) -> URLParts:
    """The parts of `text`; raise `DatabaseURLError`."""
    _check_scheme(text.strip())
    rest, _, query = text.strip().partition("://")[2].partition("?")
    authority, _, path = rest.partition("/")
    if "@" in path + query:
        # Most likely the authority ended within the password; what follows would be shown as a name.
        raise DatabaseURLError(f"an @ stands after the first / or ?. {_HINT} Elsewhere write @ as %40.")
    # Everything up to the last @ is user and password: a password with an @ is understood.
    credentials, _, location = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    host, port = _split_location(location)
    parameters, dropped = _read_query(query)
    return URLParts(
        user=parameters.pop("user", _decode(user)) or None,
        password=parameters.pop("password", _decode(password)) or None,
        host=_check_host(parameters.pop("host", _decode(host))),
        port=_check_port(parameters.pop("port", port)),
        database=parameters.pop("dbname", _decode(path)) or None,
        parameters=parameters,
        dropped=dropped,
    )


def encode(text: str) -> str:
    """`text` as any part of a URL."""
    return quote(text, safe="")


def encode_host(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets, a unix socket's folder encoded."""
    return f"[{quote(host, safe=':')}]" if is_ipv6(host) else encode(host)


def is_ipv6(text: str) -> bool:
    """Return True if `text` is an IPv6 address, with or without a zone."""
    try:
        return ipaddress.ip_address(text.partition("%")[0]).version == 6  # noqa: PLR2004  (its name)
    except ValueError:
        return False


def _check_scheme(text: str) -> None:
    scheme, separator, _ = text.partition("://")
    family, _, driver = scheme.lower().partition("+")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+_.-]{,30}", scheme):
        raise DatabaseURLError(
            "it is no URL. Use postgresql://user:password@host/database, without quotes or a command."
        )
    if family not in _SCHEMES or driver not in _DRIVERS:
        raise DatabaseURLError(f'scheme "{scheme}" is not supported. Use postgresql://.')


def _split_location(location: str) -> tuple[str, str]:
    """Split `host:port`, where the host may be an IPv6 address in brackets."""
    if not location.startswith("["):
        host, _, port = location.partition(":")
        return host, port
    host, bracket, port = location[1:].partition("]")
    if not bracket or not is_ipv6(host) or (port and not port.startswith(":")):
        raise DatabaseURLError("the IPv6 address is malformed. Write it as [2001:db8::1]:5432.")
    return host, port[1:]


def _read_query(query: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Split a query into libpq's parameters and the names of those that are not libpq's, or empty."""
    parameters: dict[str, str] = {}
    dropped: list[str] = []
    for pair in filter(None, query.split("&")):
        name, value = (_decode(part) for part in pair.partition("=")[::2])
        if name == "ssl" and "sslmode" not in parameters:
            name, value = "sslmode", _SSL_VALUES.get(value.lower(), value)
        if value and name in LIBPQ_PARAMETERS | _OVERRIDES:
            _check_value(name, value)
            parameters[name] = value
        else:
            dropped.append(name)
    return parameters, tuple(dropped)


def _check_value(name: str, value: str) -> None:
    if name in WHOLE_NUMBERS and not re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", value):
        raise DatabaseURLError(f"its {name} is not a whole number. Write {name}=10 or drop it.")
    if value not in (choices := CHOICES.get(name, (value,))):
        raise DatabaseURLError(f"its {name} is not one of libpq's. Use one of: {', '.join(choices)}.")


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise DatabaseURLError(
            "a percent sign is not followed by two hexadecimal digits. Write % itself as %25."
        )
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise DatabaseURLError("it is not valid UTF-8. Percent-encode it as UTF-8.") from None
    if "\0" in decoded:
        raise DatabaseURLError("it holds a NUL character. Remove it.")
    return decoded


def _check_host(host: str) -> str | None:
    if "," in host:
        raise DatabaseURLError("it names several hosts. Name one; for a replica use its own URL.")
    if not host.startswith(("/", "@")) and not is_ipv6(host) and re.search(r"[\s/:@?#\[\]%\\]", host):
        raise DatabaseURLError(f"the host is malformed. {_HINT}")
    # Of an absolute name: certificates, and we, know the host without its dot.
    return host.removesuffix(".") or None


def _check_port(port: str) -> int | None:
    if not port:
        return None
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:  # noqa: PLR2004  (16 bits)
        raise DatabaseURLError(f"the port is not a number from 1 to 65535. {_HINT}")
    return int(port)
