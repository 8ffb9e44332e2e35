"""The password is rotated in the store, and the old one refused: no request fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.faults.deployment import Application
from tests.onetrip.connection.secret_store import CREDENTIALS, Store
from tests.onetrip.connection.test_secrets import ROLE, SECRET_READ, Login, login, moto, store, strict_pooler
from tests.onetrip.environment import JWT_ISSUER, JWT_SECRET_KEY
from tests.packages.runtimes import uvicorn

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.onetrip.servers import Servers

__all__ = ["login", "moto", "store", "strict_pooler"]

WORKERS = 8


@pytest.fixture
def route() -> str:
    """As deployed: through the pooler."""
    return "pooled"


def test_a_rotation_fails_no_request(store: Store, login: Login, servers: Servers, rows: Rows) -> None:
    """Requests that log in anew each, with the rotation in their midst: all succeed, with one refresh."""
    row = rows("rotation", 500, 100)
    servers.administer(f"ALTER ROLE {ROLE} SUPERUSER")
    (secret,) = [store.client("secretsmanager").create_secret(Name=uuid4().hex, SecretString=login.text)]
    variables = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
        "DB_SECRET_ARN": secret["ARN"],
        "DATABASE_MODE": "pooled",
        "DATABASE_POOL": "null",
        "JWT_SECRET_KEY": JWT_SECRET_KEY,
        "JWT_ISSUER": JWT_ISSUER,
    }

    def rotate() -> None:
        renewed = replace(login, password=uuid4().hex)
        put = store.client("secretsmanager").put_secret_value
        put(SecretId=secret["ARN"], SecretString=renewed.text)
        login.set_password(renewed.password)

    add = "INSERT INTO users (username, email) VALUES ('ada', 'ada@example.com') RETURNING id"
    ((person,),) = servers.administer(add, login.database)
    with uvicorn(**variables) as server:
        application = Application(server, server._port)  # noqa: SLF001  (its own tests need none)

        def one(number: int) -> None:
            if number == row.of // 2:
                rotate()
            answer = application.ask("GET", "/api/v1/users/me", user=person)
            row.count(answer.status == 200, answer)

        with ThreadPoolExecutor(WORKERS) as clients:
            list(clients.map(one, range(row.of)))
    # The first read, and one refresh that asks for the version in force and for one under way.
    assert store.asked == {SECRET_READ: 3}
    row.check()
