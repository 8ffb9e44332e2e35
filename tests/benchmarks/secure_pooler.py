"""A database behind TLS and a password, as Neon's are: pooled, and directly but for the TLS in front."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import trustme

from lib.database_url import DatabaseURL
from lib.local_postgres import LocalPostgres
from lib.local_postgres import running as postgres_running
from tests import pgbouncer
from tests.conftest import alembic, free_port

PASSWORD = "benchmark"
# A row for each design, in the table that it reads.
ROWS = """
    INSERT INTO users (username, email) VALUES ('ada', 'ada@example.com');
    CREATE TABLE "user" (
        id serial PRIMARY KEY, username varchar(50) UNIQUE NOT NULL, email varchar(100) UNIQUE NOT NULL,
        hashed_password varchar NOT NULL, role varchar NOT NULL, is_active boolean NOT NULL,
        created_at timestamp NOT NULL
    );
    INSERT INTO "user" (username, email, hashed_password, role, is_active, created_at)
        VALUES ('ada', 'ada@example.com', 'x', 'USER', true, now());
"""


class SecurePgBouncer(pgbouncer.PgBouncer):
    """A pooler that takes nobody without TLS and the password."""

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
    """The ports of the pooler and of the direct endpoint."""

    pooled_port: int
    direct_port: int


@contextmanager
def endpoints(folder: Path) -> Iterator[Endpoints]:
    """A migrated database with a row for everyone, behind both endpoints."""
    pgbouncer.install()
    postgres = LocalPostgres(folder / "postgres", port=free_port())
    with postgres_running(postgres):
        plain = DatabaseURL(user="postgres", host="127.0.0.1", port=postgres.port, database="postgres")
        alembic(plain, "upgrade", "head")
        _fill(plain)
        server = DatabaseURL(host="127.0.0.1", port=postgres.port)
        with (
            pgbouncer.running(_pooler(folder / "pooled", server)) as pooled,
            # Each client has a server connection of its own: a direct endpoint that speaks TLS.
            pgbouncer.running(_pooler(folder / "direct", server, pool_mode="session")) as direct,
        ):
            yield Endpoints(pooled.port, direct.port)


def _pooler(folder: Path, server: DatabaseURL, **settings: str) -> SecurePgBouncer:
    secure = {
        "client_tls_sslmode": "require",
        "client_tls_key_file": str(folder / "key.pem"),
        "client_tls_cert_file": str(folder / "certificate.pem"),
        "auth_type": "scram-sha-256",
        "default_pool_size": "40",
    }
    return SecurePgBouncer(folder, free_port(), server, {**secure, **settings})


def _fill(url: DatabaseURL) -> None:
    with psycopg.connect(url.render(hide_password=False), autocommit=True) as connection:
        connection.execute(ROWS.encode())
