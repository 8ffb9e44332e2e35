"""The fault suite: `make faults`. Each row of the table is a test; what it reached is kept and shown."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lib.onetrip.testing.databases import free_port
from lib.onetrip.testing.postgres import LocalPostgres
from lib.onetrip.testing.postgres import running as postgres_running
from lib.onetrip.url.database_url import DatabaseURL
from tests.conftest import alembic
from tests.faults import promises
from tests.faults.deployment import Application, Deployment, package
from tests.faults.promises import Row
from tests.onetrip import pgbouncer
from tests.onetrip.conftest import certificates, tls_pooler
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers

if TYPE_CHECKING:
    from tests.onetrip.conftest import Certificates

__all__ = ["certificates", "tls_pooler"]

HERE = Path(__file__).parent
KEY = "promise"
Rows = Callable[..., Row]


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Be collected only when asked for by name: it takes long."""
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in asked) else True


def pytest_report_header() -> str:
    """The seed, and what is shortened."""
    form = "shortened: a few tries of each" if promises.SHORT else "long"
    return f"faults: {form}; FAULTS_SEED={promises.SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table, and keep it."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    # Of every phase of a test the last one knows how it ended.
    rows = {
        value["name"]: value
        for report in reports
        for key, value in getattr(report, "user_properties", ())
        if key == KEY
    }
    if rows:
        promises.keep(list(rows.values()))
        terminalreporter.section(f"promises, seed {promises.SEED}")
        terminalreporter.write_line(promises.table(list(rows.values())))


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    """Begin a row of the table by its name, with how many tries it takes in full and shortened."""
    begun: list[Row] = []

    def begin(name: str, full: int, short: int) -> Row:
        row = Row(name, promises.times(full, short), full)
        begun.append(row)
        return row

    yield begin
    request.node.user_properties.extend((KEY, row.result()) for row in begun)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers that are the same in each run of this test with the same seed."""
    return random.Random(f"{promises.SEED} {request.node.name}")


@pytest.fixture(scope="session")
def unzipped_package() -> Iterator[Callable[[], Path]]:
    """Unzips the built function once, for those who ask."""
    with tempfile.TemporaryDirectory(prefix="fastapi-on-neon-function-") as folder:
        yield cache(lambda: package(Path(folder)))


@pytest.fixture
def deployment(
    servers: Servers, template: str, certificates: Certificates, unzipped_package: Callable[[], Path]
) -> Iterator[Deployment]:
    """A migrated database of this test's own."""
    with servers.copy(template) as name:
        yield Deployment(servers, name, certificates.authority, unzipped_package)


@pytest.fixture
def network(tls_pooler: pgbouncer.PgBouncer) -> Iterator[Proxy]:
    """The network between the application and a PgBouncer that speaks TLS."""
    with Proxy(("127.0.0.1", tls_pooler.port)).running() as proxy:
        yield proxy


@pytest.fixture
def application(deployment: Deployment, network: Proxy) -> Iterator[Application]:
    """The application under uvicorn, behind that network, with a deadline of five seconds."""
    with deployment.serving(network.port, REQUEST_TIMEOUT_SECONDS="5") as application:
        yield application


@pytest.fixture
def own_servers(certificates: Certificates) -> Iterator[Servers]:
    """A PostgreSQL that loses nothing and a PgBouncer with TLS of the test's own, to be killed at will."""
    folder = Path(tempfile.mkdtemp(prefix="fastapi-on-neon-own-"))
    folder.chmod(0o755)
    settings = {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": str(certificates.certificate),
        "client_tls_key_file": str(certificates.key),
        # After a refused login the pooler would refuse by itself for 15 s.
        "server_login_retry": "1",
    }
    postgres = LocalPostgres(folder / "postgres", port=free_port(), settings={"max_connections": "20"})
    try:
        with postgres_running(postgres):
            server = DatabaseURL(host="127.0.0.1", port=postgres.port)
            alembic(DatabaseURL("postgres", None, "127.0.0.1", postgres.port, "postgres"), "upgrade", "head")
            yield Servers(postgres, pgbouncer.PgBouncer(folder / "pgbouncer", free_port(), server, settings))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def own(
    own_servers: Servers, certificates: Certificates, unzipped_package: Callable[[], Path]
) -> Iterator[Deployment]:
    """A deployment on servers of the test's own; its pooler runs."""
    with pgbouncer.running(own_servers.pooler):
        yield Deployment(own_servers, "postgres", certificates.authority, unzipped_package)


@contextmanager
def readable(deployment: Deployment, certificates: Certificates, route: str) -> Iterator[Proxy]:
    """A network that speaks TLS itself, and so can tell a COMMIT from anything else."""
    port = deployment.servers.url(route).port
    assert port is not None
    with Proxy(("127.0.0.1", port), certificates.context()).running() as proxy:
        yield proxy
