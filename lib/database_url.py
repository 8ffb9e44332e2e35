"""The PostgreSQL URL as a value: parse, normalise, switch between pooled and direct, redact."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

# Every parameter that libpq 18 takes in a URL, less those that are fields of their own below.
# Whatever else a URL carries was meant for another program (Prisma, asyncpg) and is dropped.
LIBPQ_PARAMETERS = frozenset(
    """
    application_name channel_binding client_encoding connect_timeout fallback_application_name
    gssdelegation gssencmode gsslib hostaddr keepalives keepalives_count keepalives_idle
    keepalives_interval krbsrvname load_balance_hosts max_protocol_version min_protocol_version
    oauth_client_id oauth_client_secret oauth_issuer oauth_scope options passfile replication
    require_auth requirepeer scram_client_key scram_server_key service servicefile ssl_max_protocol_version
    ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslkeylogfile
    sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout
    """.split()
)
_SECRET_PARAMETERS = frozenset(
    {"sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
_SCHEMES = frozenset({"postgres", "postgresql"})
_DRIVERS = frozenset({"", "asyncpg", "psycopg", "psycopg2", "psycopg_async"})
_POOLER_SUFFIX = "-pooler"
_NEON_DOMAINS = (".neon.tech", ".neon.build")
_TLS_STRENGTH = {"disable": 0, "allow": 1, "prefer": 2, "require": 3, "verify-ca": 4, "verify-full": 5}
# asyncpg's `ssl=true` and its like, said in libpq's words.
_SSL_VALUES = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable"}
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HIDDEN = "***"


class DatabaseURLError(ValueError):
    """A URL that cannot be used; the message says why and what to do, never the password."""


@dataclass(frozen=True, slots=True, repr=False)
class DatabaseURL:
    """Where the database is and who connects, with the password kept out of every text form."""

    user: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, text: str) -> DatabaseURL:
        """Read a `postgres://` or `postgresql://` URL as libpq does; raise `DatabaseURLError`."""
        _check_scheme(text)
        rest, _, query = text.strip().partition("://")[2].partition("?")
        authority, _, path = rest.partition("/")
        credentials, at, location = authority.rpartition("@")
        user, _, password = credentials.partition(":") if at else ("", "", "")
        host, port = _split_location(location)
        parameters, dropped = _read_query(query)
        given = {
            "user": _decode(user),
            "password": _decode(password),
            "host": _decode(host),
            "port": port,
            "database": _decode(path),
        }
        # libpq lets the query override the authority: `?host=/run/postgresql` is the usual case.
        for name in ("user", "password", "host", "port"):
            given[name] = parameters.pop(name, None) or given[name]
        given["database"] = parameters.pop("dbname", None) or given["database"]
        return cls(
            user=given["user"] or None,
            password=given["password"] or None,
            host=_check_host(given["host"]),
            port=_check_port(given["port"]),
            database=given["database"] or None,
            parameters=parameters,
            dropped=dropped,
        )

    @property
    def is_neon(self) -> bool:
        """Whether the host is one of Neon's."""
        return self.host is not None and self.host.lower().endswith(_NEON_DOMAINS)

    @property
    def is_pooled(self) -> bool:
        """Whether the host is Neon's pooler; of other hosts the name tells nothing."""
        return self.is_neon and self._first_label.endswith(_POOLER_SUFFIX)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine: a unix socket, localhost or a loopback address."""
        if self.host is None or self.host.startswith(("/", "@")):
            return "hostaddr" not in self.parameters or _is_loopback(self.parameters["hostaddr"])
        return self.host.lower() == "localhost" or _is_loopback(self.host)

    @property
    def endpoint_id(self) -> str | None:
        """Neon's endpoint id (`ep-cool-name-123456`), or None elsewhere."""
        return self._first_label.removesuffix(_POOLER_SUFFIX) if self.is_neon else None

    @property
    def region(self) -> str | None:
        """Neon's region (`us-east-2`), or None elsewhere: the third label before `neon.tech`."""
        labels = (self.host or "").lower().split(".")
        return labels[-4] if self.is_neon and len(labels) >= 5 else None

    @property
    def _first_label(self) -> str:
        return (self.host or "").lower().split(".", 1)[0]

    def pooled(self) -> DatabaseURL:
        """The same database through Neon's pooler; other hosts are returned as they are."""
        return self if self.is_pooled or not self.is_neon else self._with_suffix(_POOLER_SUFFIX)

    def direct(self) -> DatabaseURL:
        """The same database without Neon's pooler; other hosts are returned as they are."""
        return self._with_suffix("") if self.is_pooled else self

    def _with_suffix(self, suffix: str) -> DatabaseURL:
        domain = (self.host or "").partition(".")[2]
        return replace(self, host=f"{self.endpoint_id}{suffix}.{domain}")

    def secured(self, tls: str | None = None, ca_file: str | None = None) -> DatabaseURL:
        """The same URL with TLS at least as strong as `tls` and as the host demands.

        Neon hosts get `require` with channel binding, other remote hosts `require`, local ones what
        the URL says. `verify-full` checks the certificate against `ca_file` (PEM). A URL that itself
        asks for less than `require` of a remote host raises `DatabaseURLError`.
        """
        wanted = self.parameters.get("sslmode")
        if wanted is not None and wanted not in _TLS_STRENGTH:
            raise DatabaseURLError(
                f'sslmode "{wanted}" is unknown. Use require or verify-full.'
            )
        if wanted is not None and not self.is_local and _TLS_STRENGTH[wanted] < _TLS_STRENGTH["require"]:
            raise DatabaseURLError(
                f"sslmode={wanted} would send data in the clear to a remote host. Use sslmode=require or drop it."
            )
        floor = tls or (None if self.is_local else "require")
        parameters = dict(self.parameters)
        if floor and _TLS_STRENGTH[floor] > _TLS_STRENGTH.get(wanted or "disable", 0):
            parameters["sslmode"] = floor
        if parameters.get("sslmode") == "verify-full" and ca_file:
            parameters.setdefault("sslrootcert", ca_file)
        if self.is_neon:
            parameters["channel_binding"] = "require"
        return replace(self, parameters=parameters)

    def connect_arguments(self) -> dict[str, str | int]:
        """Keyword arguments for `psycopg.connect`: libpq's names, the password in the clear."""
        named = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }
        return {name: value for name, value in named.items() if value is not None} | dict(self.parameters)

    def render(self, *, hide_password: bool = True) -> str:
        """The URL as text that `parse` reads back; secrets replaced by `***` unless asked for."""
        hide = (lambda value: _HIDDEN) if hide_password else _encode
        credentials = _encode(self.user or "")
        if self.password is not None:
            credentials += ":" + hide(self.password)
        host = f"[{self.host}]" if ":" in (self.host or "") else _encode(self.host or "")
        location = host + (f":{self.port}" if self.port is not None else "")
        query = "&".join(
            f"{name}={hide(value) if name in _SECRET_PARAMETERS else _encode(value)}"
            for name, value in self.parameters.items()
        )
        authority = f"{credentials}@{location}" if credentials else location
        return f"postgresql://{authority}/{_encode(self.database or '')}" + (f"?{query}" if query else "")

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"DatabaseURL({self.render()!r})"


def _check_scheme(text: str) -> None:
    scheme, separator, _ = text.strip().partition("://")
    family, _, driver = scheme.lower().partition("+")
    if not separator:
        # The text may be a bare password: nothing of it is repeated.
        raise DatabaseURLError("this is no URL. Use postgresql://user:password@host/database.")
    if family not in _SCHEMES or driver not in _DRIVERS:
        raise DatabaseURLError(f'scheme "{scheme[:40]}" is not supported. Use postgresql://.')


def _split_location(location: str) -> tuple[str, str]:
    """Split `host:port`, where the host may be an IPv6 address in brackets."""
    if location.startswith("["):
        host, bracket, port = location[1:].partition("]")
        if not bracket or not _is_ipv6(host) or (port and not port.startswith(":")):
            raise DatabaseURLError("the IPv6 address is malformed. Write it as [2001:db8::1]:5432.")
        return host, port[1:]
    host, _, port = location.partition(":")
    return host, port


def _read_query(query: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Split a query into libpq's parameters and the names of those that are not libpq's."""
    parameters: dict[str, str] = {}
    dropped: list[str] = []
    for pair in filter(None, query.split("&")):
        name, value = (_decode(part) for part in pair.partition("=")[::2])
        if name == "ssl" and "sslmode" not in parameters:
            name, value = "sslmode", _SSL_VALUES.get(value.lower(), value)
        if name in LIBPQ_PARAMETERS or name in {"user", "password", "host", "port", "dbname"}:
            parameters[name] = value
        else:
            dropped.append(name)
    return parameters, tuple(dropped)


def _decode(text: str) -> str:
    if _BAD_PERCENT.search(text):
        raise DatabaseURLError(
            "a percent sign is not followed by two hexadecimal digits. Write % itself as %25."
        )
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise DatabaseURLError("it is not valid UTF-8 when percent-decoded. Encode it as UTF-8.") from None
    if "\0" in decoded:
        raise DatabaseURLError("it holds a NUL character. Remove %00.")
    return decoded


def _encode(text: str) -> str:
    return quote(text, safe="")


def _check_host(host: str | None) -> str | None:
    if not host:
        return None
    if host.startswith(("/", "@")) or _is_ipv6(host):
        return host
    if "," in host:
        raise DatabaseURLError("it names several hosts. Name one; for a replica use its own URL.")
    if re.search(r"[\s/:@?#\[\]%\\]", host):
        raise DatabaseURLError(
            "the host is malformed. Percent-encode special characters in user and password."
        )
    return host


def _check_port(port: str | int | None) -> int | None:
    if not port:
        return None
    if not str(port).isascii() or not str(port).isdigit() or not 1 <= int(port) <= 65535:
        raise DatabaseURLError(
            "the port is not a number from 1 to 65535. "
            "If the password holds / or ? or @, percent-encode it."
        )
    return int(port)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.partition("%")[0]).version == 6
    except ValueError:
        return False


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
