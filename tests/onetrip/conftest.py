"""The package's own application, on a network that tests can watch and break, with TLS on it."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from sqlalchemy import text

from lib.onetrip.pool.database import Database
from lib.onetrip.pool.engines import migration_engine
from lib.onetrip.settings.settings import Settings, load_settings
from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip import pgbouncer
from tests.onetrip.databases import database, database_name, make_settings, route
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers
from tests.onetrip.sync_or_async import WAYS, Units
from tests.onetrip.tables import REVISIONS, Base

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

# The package's extras: where one is not installed, its tests are left out.
EXTRAS = {"fastapi", "starlette", "mangum"}
TEMPLATE = "tables"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Leave a file out if it imports a library that is an extra and is not installed."""
    report = yield
    call: Any = getattr(report, "call", None)
    error = call and call.excinfo and call.excinfo.value.__cause__
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] in EXTRAS:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"{error.name} is not installed")
    return report


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a database with the tests' tables, no rows, and the mark of a migration."""
    servers.administer(f"CREATE DATABASE {TEMPLATE}")
    engine = migration_engine(servers.url("direct", TEMPLATE))
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
        connection.execute(
            text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISIONS[-1]}
        )
    return TEMPLATE


@pytest.fixture
def app(database: Database) -> FastAPI:
    """The tests' own application on this test's database."""
    pytest.importorskip("fastapi")
    from tests.onetrip.application import create_app  # noqa: PLC0415  (FastAPI is an extra)

    return create_app(database)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A client of the application, which sees a 500 as a user would."""
    from fastapi.testclient import TestClient  # noqa: PLC0415  (FastAPI is an extra)

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def faulty_client(database: Database) -> Iterator[TestClient]:
    """A client of the application with routes that fail."""
    pytest.importorskip("fastapi")
    from tests.onetrip.fastapi.faulty import served_faulty  # noqa: PLC0415  (FastAPI is an extra)

    with served_faulty(database) as client:
        yield client


@dataclass(frozen=True)
class Certificates:
    """The certificate and key of 127.0.0.1, signed by `authority`."""

    authority: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """A server's side of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """Certificates of an authority that exists for this run only."""
    folder = Path(tempfile.mkdtemp(prefix="onetrip-tls-"))
    # PgBouncer runs as another user than root.
    folder.chmod(0o755)
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(str(files.authority))
    issued.cert_chain_pems[0].write_to_path(str(files.certificate))
    issued.private_key_pem.write_to_path(str(files.key))
    for file in folder.iterdir():
        file.chmod(0o644)
    yield files
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def tls_pooler(servers: Servers, certificates: Certificates) -> Iterator[pgbouncer.PgBouncer]:
    """A second PgBouncer, which speaks TLS with its clients and nothing else."""
    settings = {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": str(certificates.certificate),
        "client_tls_key_file": str(certificates.key),
    }
    folder = Path(tempfile.mkdtemp(prefix="onetrip-pooler-"))
    folder.chmod(0o755)
    pooler = pgbouncer.PgBouncer(folder, free_port(), servers.pooler.server, settings)
    with pgbouncer.running(pooler):
        yield pooler
    shutil.rmtree(folder)


@pytest.fixture
def proxy(
    servers: Servers, certificates: Certificates, tls_pooler: pgbouncer.PgBouncer, route: str
) -> Iterator[Proxy]:
    """The network in front of this test's route; TLS with PostgreSQL ends at it, with PgBouncer behind it."""
    if route == "pooled":
        proxy = Proxy(("127.0.0.1", tls_pooler.port))
    else:
        assert servers.postgres.port is not None
        proxy = Proxy(("127.0.0.1", servers.postgres.port), certificates.context())
    with proxy.running():
        yield proxy


@pytest.fixture
def tls_url(proxy: Proxy, certificates: Certificates, database_name: str) -> DatabaseURL:
    """The test's database through the proxy, with certificate and host name checked."""
    parameters = {
        "sslmode": "verify-full",
        "sslrootcert": str(certificates.authority),
        "gssencmode": "disable",
    }
    return DatabaseURL("postgres", None, "127.0.0.1", proxy.port, database_name, parameters)


@pytest.fixture
def proxied_settings(tls_url: DatabaseURL, route: str) -> Callable[..., Settings]:
    """Settings whose URLs lead through the proxy, with further variables by keyword."""
    # TLS is asked for by the setting, as in production.
    parameters = {name: value for name, value in tls_url.parameters.items() if name != "sslmode"}
    url = replace(tls_url, parameters=parameters).render()

    def make(**variables: object) -> Settings:
        fixed = {"DATABASE_URL": url, "DATABASE_URL_UNPOOLED": url, "DATABASE_TLS": "verify-full"}
        return load_settings(**{**fixed, "DATABASE_MODE": route, **variables})

    return make


@pytest.fixture
def proxied_database(proxied_settings: Callable[..., Settings]) -> Iterator[Database]:
    """The connection layer with the proxy in between."""
    database = Database(proxied_settings())
    yield database
    database.close()


@pytest.fixture
def in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test is about what only the single flight does, so it is on in `make test-plain` too."""
    monkeypatch.setenv("DATABASE_SINGLE_FLIGHT", "on")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each test that runs units of work does so with a sync engine and with an async one."""
    way: str = request.param
    return way


@pytest.fixture
def units(proxied_settings: Callable[..., Settings], way: str) -> Iterator[Units]:
    """Units of work through the proxy, sync or async."""
    with Units.opened(Database(proxied_settings()), way) as units:
        yield units
