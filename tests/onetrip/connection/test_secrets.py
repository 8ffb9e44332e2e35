"""The URL is read from AWS when it is first wanted, and again when a password was rotated."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from fastapi.testclient import TestClient
from moto.server import ThreadedMotoServer
from psycopg import pq
from sqlalchemy import text

from lib.onetrip.connection import early as early_connection
from lib.onetrip.connection.source import source_for
from lib.onetrip.deadlines import deadline
from lib.onetrip.errors import SecretError
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_reading, reading
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip import pgbouncer
from tests.onetrip.application import create_app
from tests.onetrip.connection.secret_store import CREDENTIALS, TOKEN, Extension, Store
from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

ROLE = "rotating"
ONE = text("SELECT 1")
REQUESTS = 200
WORKERS = 8
SECRET_READ, PARAMETER_READ = "GetSecretValue", "GetParameter"
HBA = f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n"
POOLER_HBA = f"host all postgres 127.0.0.1/32 trust\n{HBA}"


@dataclass
class Login:
    """A role whose password the server really checks, on one of the two routes."""

    servers: Servers
    pooler: pgbouncer.PgBouncer
    route: str
    database: str
    password: str = field(default_factory=lambda: uuid4().hex)

    @property
    def url(self) -> DatabaseURL:
        """The URL that lets one in."""
        port = self.pooler.port if self.route == "pooled" else self.servers.postgres.port
        return DatabaseURL(ROLE, self.password, "127.0.0.1", port, self.database)

    @property
    def text(self) -> str:
        """The URL as it is stored."""
        return self.url.render(hide_password=False)

    def set_password(self, password: str) -> None:
        """Let the server and the pooler know `password` and none other."""
        self.password = password
        self.servers.administer(f"ALTER ROLE {ROLE} PASSWORD '{password}'")
        # A new file: the pooler looks at the time of a change in whole seconds.
        users = self.pooler.folder / "logins.new"
        users.write_text(f'"postgres" ""\n"{ROLE}" "{password}"\n')
        users.chmod(0o644)
        users.replace(self.pooler.folder / "logins.txt")
        self.pooler.command("RELOAD")


@pytest.fixture(scope="module")
def strict_pooler(servers: Servers) -> Iterator[pgbouncer.PgBouncer]:
    """A pooler, and a server behind it, that ask the role for its password."""
    servers.administer(f"CREATE ROLE {ROLE} LOGIN")
    rules = servers.postgres.places.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(HBA + before)
    servers.administer("SELECT pg_reload_conf()")
    with tempfile.TemporaryDirectory(prefix="fastapi-on-neon-logins-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "logins.txt").write_text('"postgres" ""\n')
        (folder / "hba.conf").write_text(POOLER_HBA)
        settings = {
            "auth_type": "hba",
            "auth_hba_file": str(folder / "hba.conf"),
            "auth_file": str(folder / "logins.txt"),
        }
        pooler = pgbouncer.PgBouncer(folder, free_port(), servers.pooler.server, settings)
        with pgbouncer.running(pooler):
            yield pooler
    rules.write_text(before)
    servers.administer("SELECT pg_reload_conf()")
    servers.administer(f"DROP ROLE {ROLE}")


@pytest.fixture
def login(servers: Servers, strict_pooler: pgbouncer.PgBouncer, route: str, database_name: str) -> Login:
    """The role with a new password, on this test's route and database."""
    login = Login(servers, strict_pooler, route, database_name)
    login.set_password(login.password)
    return login


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[str, int]]:
    """AWS's services as moto has them."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def store(moto: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The services, with the environment that leads a process to them."""
    with Store(moto).running() as store:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.port}")
        yield store


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Iterator[Extension]:
    """The extension beside a function, and no way to the services themselves."""
    with Extension({}).running() as extension:
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
        monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
        monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(extension.port))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        yield extension


def _stored(store: Store, content: str) -> str:
    arn: str = store.client("secretsmanager").create_secret(Name=uuid4().hex, SecretString=content)["ARN"]
    return arn


def _as_json(url: DatabaseURL) -> str:
    fields = {"host": url.host, "port": url.port, "username": url.user, "password": url.password}
    return json.dumps({**fields, "dbname": url.database, "engine": "postgres"})


def _database(**variables: str) -> Database:
    return Database(load_settings(DATABASE_POOL="null", **variables))


def _ask(database: Database) -> int:
    with deadline(20), reading(database) as session:
        answer: int = session.scalar(ONE)
        return answer


async def _async_ask(database: Database) -> int:
    with deadline(20):
        async with async_reading(database) as session:
            answer: int = await session.scalar(ONE)
            return answer


# Reading


@pytest.mark.parametrize("content", [lambda login: login.text, lambda login: _as_json(login.url)])
def test_a_secret_is_read_once_and_only_when_it_is_wanted(
    store: Store, login: Login, content: Callable[[Login], str]
) -> None:
    """A URL or AWS's JSON, from Secrets Manager through boto3: one call for any number of connections."""
    database = _database(DB_SECRET_ARN=_stored(store, content(login)))
    assert str(database.engine.url).endswith("://")
    assert store.asked == {}
    assert [_ask(database) for _ in range(3)] == [1, 1, 1]
    assert store.asked == {SECRET_READ: 1}


def test_a_parameter_is_read_decrypted(store: Store, login: Login) -> None:
    """SSM's SecureString holds the URL just as well."""
    name = f"/app/{uuid4().hex}"
    store.client("ssm").put_parameter(Name=name, Value=login.text, Type="SecureString")
    database = _database(DATABASE_URL_PARAMETER=name)
    assert asyncio.run(_async_ask(database)) == 1
    assert store.asked == {PARAMETER_READ: 1}


@pytest.mark.parametrize("variable", ["DB_SECRET_ARN", "DATABASE_URL_PARAMETER"])
def test_the_extension_is_asked_where_it_runs(extension: Extension, login: Login, variable: str) -> None:
    """On Lambda the value comes from beside the function: the services are not called."""
    extension.secrets["name/of it"] = extension.secrets["name"] = login.text
    assert _ask(_database(**{variable: "name"})) == 1
    assert sum(extension.asked.values()) == 1


def test_without_the_extension_a_function_asks_the_service(
    store: Store, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function to which the layer was not added reads its secret all the same."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(free_port()))
    assert _ask(_database(DB_SECRET_ARN=_stored(store, login.text))) == 1
    assert store.asked == {SECRET_READ: 1}


def test_an_instance_whose_extension_is_not_ready_yet_starts(extension: Extension, login: Login) -> None:
    """While a function initialises its extension refuses; the first request reads the secret."""
    extension.secrets["name"] = login.text
    extension.refusals = ["not ready to serve traffic, please wait"]
    settings = load_settings(DB_SECRET_ARN="name", DATABASE_POOL="null")
    early_connection.start(settings)
    assert early_connection.take(source_for(settings)) is None
    assert _ask(Database(settings)) == 1
    assert sum(extension.asked.values()) == 2


def test_the_early_connection_uses_the_secret(store: Store, login: Login, servers: Servers) -> None:
    """An instance that can read its secret while it imports connects meanwhile, too."""
    settings = load_settings(DB_SECRET_ARN=_stored(store, login.text))
    early = early_connection.EarlyConnection(source_for(settings), pq)
    pgconn = early.take()
    assert pgconn is not None
    assert pgconn.user == ROLE.encode()
    pgconn.finish()
    assert servers.administer("SELECT 1") == [(1,)]


# The fault


def test_a_throttled_store_is_asked_again(store: Store, login: Login) -> None:
    """Too many requests to the store cost the request a moment and not its answer."""
    database = _database(DB_SECRET_ARN=_stored(store, login.text))
    store.errors = ["ThrottlingException", "TooManyRequestsException", "InternalServiceError"]
    assert _ask(database) == 1
    assert store.asked == {SECRET_READ: 4}


REFUSALS = {
    "AccessDeniedException": "(AccessDenied). Allow the function to read it (secretsmanager:GetSecretValue)",
    "ResourceNotFoundException": "(NotFound). Check its name",
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_secret_that_may_not_be_read_is_reported_with_the_remedy(
    store: Store, login: Login, code: str
) -> None:
    """The error names the variable and what to do, is asked about once, and shows nothing of the secret."""
    database = _database(DB_SECRET_ARN=_stored(store, login.text))
    store.errors = [code]
    with pytest.raises(SecretError) as refused:
        _ask(database)
    assert str(refused.value).startswith("DB_SECRET_ARN: could not be read " + REFUSALS[code])
    assert store.asked == {SECRET_READ: 1}
    assert _ask(database) == 1


UNUSABLE = {
    "mysql://u:hunter2@h/d": 'scheme "mysql" is not supported',
    '{"username": "u", "password": "hunter2"}': "JSON without a host",
    '{"host": "h", "port": "hunter2"}': "a port that is none",
    '{"host": "h", "engine": "mysql", "password": "hunter2"}': "for another engine",
    "[1]": "JSON without a host",
}


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("content", UNUSABLE)
def test_what_a_secret_holds_is_checked_and_not_shown(store: Store, content: str) -> None:
    """A secret that is no PostgreSQL URL is refused in words that keep it."""
    with pytest.raises(SecretError) as refused:
        _ask(_database(DB_SECRET_ARN=_stored(store, content)))
    assert UNUSABLE[content] in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_process_without_its_secret_lives_and_says_unavailable(
    store: Store, login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    """Live health answers, what needs the database is 503 until the secret can be read; the log says why."""
    database = _database(DB_SECRET_ARN=_stored(store, login.text))
    store.errors = ["AccessDeniedException"] * 2
    with (
        TestClient(create_app(database), raise_server_exceptions=False) as client,
        caplog.at_level("WARNING"),
    ):
        assert client.get("/health/live").status_code == 200
        refused = client.get("/health/ready")
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        assert "DB_SECRET_ARN" not in refused.text
        assert "DB_SECRET_ARN: could not be read" in caplog.text
    assert login.password not in caplog.text


@pytest.mark.parametrize("asked", ["extension", "service"])
def test_a_store_that_is_silent_holds_no_request_beyond_its_deadline(
    store: Store, extension: Extension, login: Login, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """A store that accepts and never answers is abandoned at the deadline, and read again later."""
    arn = _stored(store, login.text)
    extension.secrets[arn] = login.text
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        if asked == "extension":
            monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(port))
        else:
            monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(free_port()))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        database = _database(DB_SECRET_ARN=arn)
        begin = time.monotonic()
        with pytest.raises(SecretError), deadline(2), reading(database) as session:
            session.scalar(ONE)
        assert time.monotonic() - begin < 20
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.port}")
    assert _ask(database) == 1


# Rotation


def _under_load(database: Database, way: str, rotate: Callable[[], None]) -> list[int]:
    """The answers to many requests, in the midst of which `rotate` happens."""

    async def many() -> list[int]:
        turns = asyncio.Semaphore(WORKERS)

        async def one(number: int) -> int:
            async with turns:
                if number == REQUESTS // 2:
                    await asyncio.to_thread(rotate)
                return await _async_ask(database)

        return await asyncio.gather(*map(one, range(REQUESTS)))

    def one(number: int) -> int:
        if number == REQUESTS // 2:
            rotate()
        return _ask(database)

    if way == "async":
        return asyncio.run(many())
    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(one, range(REQUESTS)))


def test_a_rotation_under_load_fails_no_request_and_costs_one_refresh(
    store: Store, login: Login, way: str
) -> None:
    """Of 200 requests that connect each, none notices that the password became another one."""
    arn = _stored(store, login.text)
    database = _database(DB_SECRET_ARN=arn)

    def rotate() -> None:
        renewed = replace(login, password=uuid4().hex)
        store.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=renewed.text)
        login.set_password(renewed.password)

    assert _under_load(database, way, rotate) == [1] * REQUESTS
    # The first read, and one refresh that asks for the version in force and for one under way.
    assert store.asked == {SECRET_READ: 3}


def test_a_rotation_under_way_fails_no_request(store: Store, login: Login, way: str) -> None:
    """The server knows the new password before the store says it is current: the pending one is used."""
    arn = _stored(store, login.text)
    database = _database(DB_SECRET_ARN=arn)

    def rotate() -> None:
        renewed = replace(login, password=uuid4().hex)
        store.client("secretsmanager").put_secret_value(
            SecretId=arn, SecretString=renewed.text, VersionStages=["AWSPENDING"]
        )
        login.set_password(renewed.password)

    assert _under_load(database, way, rotate) == [1] * REQUESTS


def test_a_refresh_passes_by_what_the_extension_keeps(
    store: Store, extension: Extension, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extension goes on to answer with the old password for minutes; the service is asked then."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.port}")
    arn = _stored(store, login.text)
    extension.secrets[arn] = login.text
    database = _database(DB_SECRET_ARN=arn)
    assert _ask(database) == 1
    assert store.asked == {}
    renewed = replace(login, password=uuid4().hex)
    store.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=renewed.text)
    login.set_password(renewed.password)
    assert _ask(database) == 1
    assert (sum(extension.asked.values()), store.asked) == (1, {SECRET_READ: 2})


def test_a_password_that_is_wrong_everywhere_fails_at_once(
    store: Store, login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is asked once, not with every request, and the server's refusal is what is seen."""
    arn = _stored(store, login.text)
    database = _database(DB_SECRET_ARN=arn)
    login.set_password(uuid4().hex)
    with caplog.at_level(logging.DEBUG):
        for _ in range(5):
            with pytest.raises(Exception, match="authentication failed") as refused:
                _ask(database)
            assert isinstance(refused.value.__cause__, psycopg.OperationalError)
    # The first read, and one refresh.
    assert store.asked == {SECRET_READ: 3}
