"""Secrets appear nowhere: not in logs, answers, representations of objects or tracebacks."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lib.onetrip.errors import SettingsError
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Answer, Application, Deployment
    from tests.onetrip.fault_proxy import Proxy

# One of its own for each place, so that a hit says where it came from.
PASSWORD, KEY, OPERATOR, TOKEN, BODY, HEADER, LOGIN, QUERY = (
    f"canary{name}5f2c9a7e31"
    for name in ("password", "signingkey5f2c9a7e", "operator", "token", "body", "header", "login", "query")
)
HEADERS = {"X-Canary": HEADER, "Cookie": f"session={HEADER}", "X-Api-Key": HEADER}


def test_canaries_are_found_nowhere(deployment: Deployment, network: Proxy, rows: Rows) -> None:
    """Good and bad requests, lost databases and bugs, with a secret in every place that takes one."""
    row = rows("canaries", 10, 10)
    variables = deployment.variables(network.port)
    url = DatabaseURL.parse(variables["DATABASE_URL"])
    told = replace(url, password=PASSWORD).render(hide_password=False)
    variables |= {
        "DATABASE_URL": told,
        "DATABASE_URL_UNPOOLED": told,
        "JWT_SECRET_KEY": KEY,
        "OPS_TOKEN": OPERATOR,
    }
    started = {name: variables[name] for name in variables if name.isupper()}
    with deployment.serving(network.port, **started, REQUEST_TIMEOUT_SECONDS="2") as application:
        answers = _exchange(application, network, deployment)
        log = application.log()
    bodies = b"".join(answer.content + repr(answer.headers).encode() for answer in answers).decode()
    assert {answer.status for answer in answers} >= {200, 401, 404, 422, 500}
    assert any(answer.status in {503, 504} for answer in answers)
    assert "Traceback" in log
    for name in (PASSWORD, KEY, OPERATOR, TOKEN, BODY, HEADER, LOGIN, QUERY):
        row.count(name not in log and name not in bodies, f"{name}: {_around(log + bodies, name)}")
    said = _representations(variables)
    row.count(not any(name in said for name in (PASSWORD, KEY, OPERATOR)), _around(said, "canary"))
    wrong = _settings_error()
    row.count(not any(name in wrong for name in (PASSWORD, KEY[:20])), wrong)
    row.check()


def _exchange(application: Application, network: Proxy, deployment: Deployment) -> list[Answer]:
    """Every kind of answer, to requests with secrets in them."""

    def ask(method: str, path: str, body: object = None, **headers: str) -> Answer:
        return application.ask(method, path, body, headers={**HEADERS, **headers})

    bearer = {"Authorization": f"Bearer {TOKEN}"}
    operator = {"Authorization": f"Bearer {OPERATOR}"}
    account = {"username": "canary", "email": "canary@example.com", "password": LOGIN}
    requests = [
        ("GET", "/health", None, bearer),
        ("GET", "/health/cold-start", None, operator),
        ("GET", f"/nowhere?token={QUERY}", None, bearer),
        ("GET", f"/api/v1/users?limit={QUERY}", None, bearer),
        ("GET", "/api/v1/users/me", None, bearer),
        ("POST", "/api/v1/auth/register", {**account, "x": BODY}, {}),
        ("POST", "/api/v1/auth/register", {**account, "email": BODY}, {}),
        ("POST", "/api/v1/auth/register", {**account, "password": [LOGIN]}, {}),
    ]
    answers = [ask(method, path, body, **headers) for method, path, body, headers in requests]
    deployment.sql("ALTER TABLE users RENAME TO gone")
    answers.append(ask("POST", "/api/v1/auth/register", account))
    deployment.sql("ALTER TABLE gone RENAME TO users")
    network.reset()
    with network.down():
        answers.append(ask("POST", "/api/v1/auth/register", account))
    answers.append(ask("POST", "/api/v1/auth/register", account))
    return answers


def _representations(variables: dict[str, str]) -> str:
    """Return the text that a debugger, logger or traceback shows of the objects that hold secrets."""
    url = replace(DatabaseURL.parse(variables["DATABASE_URL"]), port=free_port()).render(hide_password=False)
    settings = load_settings(**{**variables, "DATABASE_URL": url, "DATABASE_URL_UNPOOLED": url})
    database = Database(settings)
    shown = [repr(one) for one in (settings, database, database.url, database.engine, database.engine.pool)]
    shown += [str(settings), str(database.url), str(database.engine.url), f"{settings.model_dump()}"]
    with pytest.raises((DBAPIError, psycopg.Error)) as failure, reading(database) as session:
        session.scalar(text("SELECT 1"))
    shown += traceback.format_exception(failure.value)
    database.close()
    return "\n".join(shown)


def _settings_error() -> str:
    """Return the messages about invalid settings."""
    wrong = {"DATABASE_URL": f"mysql://u:{PASSWORD}@h/d", "JWT_SECRET_KEY": KEY[:20], "DATABASE_POOL": "x"}
    with pytest.raises(SettingsError) as failure:
        load_settings(**wrong, ENVIRONMENT="production")
    return "".join(traceback.format_exception(failure.value))


def _around(said: str, name: str) -> str:
    where = said.find(name)
    return said[max(0, where - 150) : where + 100] if where >= 0 else ""
