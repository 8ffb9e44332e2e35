"""A database behind TLS and a password, as on Neon, with a pooled and a direct endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import trustme

from benchmarks.peers.items import TABLE
from lib.onetrip.testing.databases import free_port
from lib.onetrip.testing.postgres import LocalPostgres
from lib.onetrip.testing.postgres import running as postgres_running
from lib.onetrip.url.database_url import DatabaseURL
from tests.conftest import alembic
from tests.onetrip import pgbouncer

PASSWORD = "benchmark"
# A user for the example's routes, and the table that every design reads.
ROWS = f"INSERT INTO users (username, email) VALUES ('ada', 'ada@example.com'); {TABLE}"


class SecurePgBouncer(pgbouncer.PgBouncer):
    """A pooler that demands TLS and the password."""

    def url(self, database: str = "postgres") -> DatabaseURL:
        """The URL of a database through this pooler."""
        return replace(super().url(database), password=PASSWORD, parameters={"sslmode": "require"})

    def write_configuration(self) -> Path:
        """The usual configuration, with a certificate and a password."""
        certificate = trustme.CA().issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(self.folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "certificate.pem")
        path = super().write_configuration()
        (self.folder / "users.txt").write_text(f'"postgres" "{PASSWORD}"\n')
        for file in self.folder.iterdir():
            file.chmod(0o644)
        return path


@dataclass(frozen=True)
class Endpoints:
    """A database as Neon offers it, at two ports that speak TLS and want a password."""

    postgres: LocalPostgres
    pooler: SecurePgBouncer
    direct: SecurePgBouncer

    def port(self, endpoint: str) -> int:
        """Return the address of the pooled or the direct endpoint."""
        return self.pooler.port if endpoint == "pooled" else self.direct.port


def url(port: int) -> str:
    """Return the URL of the database at a local port."""
    return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=require"


@contextmanager
def endpoints(folder: Path) -> Iterator[Endpoints]:
    """Start a migrated database with rows for all designs, behind both endpoints."""
    pgbouncer.install()
    # As many connections as Neon's smallest compute has.
    postgres = LocalPostgres(folder / "postgres", port=free_port(), settings={"max_connections": "104"})
    with postgres_running(postgres):
        plain = DatabaseURL(user="postgres", host="127.0.0.1", port=postgres.port, database="postgres")
        alembic(plain, "upgrade", "head")
        with psycopg.connect(plain.render(hide_password=False), autocommit=True) as connection:
            connection.execute(ROWS.encode())
        server = DatabaseURL(host="127.0.0.1", port=postgres.port)
        with (
            pgbouncer.running(_pooler(folder / "pooled", server)) as pooled,
            # Each client has a server connection of its own: a direct endpoint that speaks TLS.
            pgbouncer.running(_pooler(folder / "direct", server, pool_mode="session")) as direct,
        ):
            assert isinstance(pooled, SecurePgBouncer)
            assert isinstance(direct, SecurePgBouncer)
            yield Endpoints(postgres, pooled, direct)


def _pooler(folder: Path, server: DatabaseURL, **settings: str) -> SecurePgBouncer:
    secure = {
        "client_tls_sslmode": "require",
        "client_tls_key_file": str(folder / "key.pem"),
        "client_tls_cert_file": str(folder / "certificate.pem"),
        "auth_type": "scram-sha-256",
        "default_pool_size": "90",
    }
    return SecurePgBouncer(folder, free_port(), server, {**secure, **settings})
