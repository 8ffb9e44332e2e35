"""The PostgreSQL URL as a value: parse, normalise, switch between pooled and direct, redact."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from . import parsing as url_parts
from .parsing import DatabaseURLError

__all__ = ["DatabaseURL", "DatabaseURLError"]

SECRET_PARAMETERS = frozenset({"sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
_POOLER_SUFFIX = "-pooler"
_NEON_DOMAINS = (".neon.tech", ".neon.build")
_TLS_STRENGTH = {"disable": 0, "allow": 1, "prefer": 2, "require": 3, "verify-ca": 4, "verify-full": 5}
_HIDDEN = "***"
# What consoles, documentation and SQLAlchemy's own text of a URL show instead of a password.
_PLACEHOLDER = re.compile(
    r"[*\u2022\u25cf]+|[\[<{](your)?[ _-]?(db[ _-]?)?password[\]>}]|your[ _-]?password", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, repr=False)
class DatabaseURL:
    """The database's address and user, with the password kept out of every text form."""

    user: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    dropped: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, text: str) -> DatabaseURL:
        """Read a `postgres://` or `postgresql://` URL as libpq does; raise `DatabaseURLError`."""
        return cls(*url_parts.read(text))

    @property
    def is_neon(self) -> bool:
        """True if the host is one of Neon's."""
        return self.host is not None and self.host.lower().endswith(_NEON_DOMAINS)

    @property
    def is_pooled(self) -> bool:
        """True if the host is Neon's pooler; other poolers cannot be recognised by name."""
        return self.is_neon and self._first_label.lower().endswith(_POOLER_SUFFIX)

    @property
    def is_local(self) -> bool:
        """True if the URL itself names this machine: a unix socket, localhost or a loopback address.

        One without a host does not: the variable `PGHOST` or a service file may name any.
        """
        address = self.parameters.get("hostaddr") or self.host or ""
        local = address.startswith(("/", "@")) or address.lower() == "localhost" or _is_loopback(address)
        return local and not self.is_neon

    @property
    def endpoint_id(self) -> str | None:
        """Neon's endpoint id (`ep-cool-name-123456`), or None elsewhere."""
        if self.is_pooled:
            return self._first_label[: -len(_POOLER_SUFFIX)]
        return self._first_label if self.is_neon else None

    @property
    def region(self) -> str | None:
        """Neon's region (`us-east-2`), or None elsewhere: it stands two labels before `neon.tech`."""
        labels = (self.host or "").lower().split(".")
        return labels[-4] if self.is_neon and len(labels) >= 5 else None  # noqa: PLR2004  (id, region, cloud, neon.tech)

    @property
    def _first_label(self) -> str:
        return (self.host or "").partition(".")[0]

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
        the URL says. The `verify` modes check the certificate against `ca_file` (PEM) unless the URL
        names another. A URL that itself asks for less than `require` of a remote host, or whose
        password is a placeholder, raises `DatabaseURLError`.
        """
        if self.password and _PLACEHOLDER.fullmatch(self.password):
            raise DatabaseURLError("its password is a placeholder. Copy the URL with the password shown.")
        parameters = dict(self.parameters)
        # The driver's own OpenSSL does not find the system's certificates, so they are named to it.
        if parameters.get("sslrootcert") == "system" and ca_file:
            del parameters["sslrootcert"]
            tls = "verify-full"
        wanted = self._wanted_strength()
        floor = tls or ("disable" if self.is_local else "require")
        if _TLS_STRENGTH[floor] > wanted:
            parameters["sslmode"] = floor
        if parameters.get("sslmode", "").startswith("verify") and ca_file:
            parameters.setdefault("sslrootcert", ca_file)
        if self.is_neon:
            parameters["channel_binding"] = "require"
        return replace(self, parameters=parameters)

    def _wanted_strength(self) -> int:
        """The strength of the TLS that the URL demands; 0 if it demands none."""
        mode = self.parameters.get("sslmode")
        if mode is None:
            return 0
        if mode not in _TLS_STRENGTH:
            raise DatabaseURLError("its sslmode is not one of libpq's. Use sslmode=require or verify-full.")
        if not self.is_local and _TLS_STRENGTH[mode] < _TLS_STRENGTH["require"]:
            raise DatabaseURLError(
                f"sslmode={mode} may send data in the clear to a remote host. Use sslmode=require or drop it."
            )
        return _TLS_STRENGTH[mode]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parts that must not be shown: the password, and those of keys and other logins."""
        others = (value for name, value in self.parameters.items() if name in SECRET_PARAMETERS)
        return (*((self.password,) if self.password else ()), *others)

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
        hide = (lambda _: _HIDDEN) if hide_password else url_parts.encode
        credentials = url_parts.encode(self.user or "")
        if self.password is not None:
            credentials += ":" + hide(self.password)
        location = url_parts.encode_host(self.host or "") + (f":{self.port}" if self.port is not None else "")
        query = "&".join(
            f"{name}={hide(value) if name in SECRET_PARAMETERS else url_parts.encode(value)}"
            for name, value in self.parameters.items()
        )
        authority = f"{credentials}@{location}" if credentials else location
        return f"postgresql://{authority}/{url_parts.encode(self.database or '')}" + (
            f"?{query}" if query else ""
        )

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"DatabaseURL({self.render()!r})"


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
