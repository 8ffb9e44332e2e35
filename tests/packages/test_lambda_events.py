"""Events other than HTTP requests on Lambda, through AWS's own runtime client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.onetrip.events import Request
from tests.onetrip.servers import Servers
from tests.packages.runtimes import Emulator, Urls, emulator
from tests.packages.test_session import SESSION

NOBODY = "postgresql://nobody@127.0.0.1:1/nothing"
# As EventBridge's schedule sends it when no input is configured.
SCHEDULED = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2026-11-21T16:53:06Z",
    "region": "us-east-1",
    "resources": ["arn:aws:events:us-east-1:123456789012:rule/warm-up"],
    "detail": {},
}
QUEUED = {"Records": [{"messageId": "059f36b4", "body": "secret words", "eventSource": "aws:sqs"}]}
UNKNOWN = {
    "a console's test": ({"key1": "secret words"}, "the keys key1"),
    "a message of a queue": (QUEUED, "the keys Records"),
    "nothing": ({}, "an empty object"),
    "no object": ([1, 2], "a list"),
}


@pytest.fixture(scope="module")
def function(lambda_api: Path) -> Iterator[Emulator]:
    """The API's function with an unreachable database."""
    with emulator(lambda_api, DATABASE_URL=NOBODY) as running:
        yield running


@pytest.mark.parametrize("ping", [{"warm-up": True}, SCHEDULED], ids=["ours", "scheduled"])
def test_a_ping_is_answered_in_its_own_shape(function: Emulator, ping: dict[str, object]) -> None:
    """A scheduler keeps an instance warm without an error, though the database be down."""
    assert function.invoke(ping) == {"warm": True}


@pytest.mark.parametrize(("event", "description"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_event_is_refused_in_a_sentence(
    function: Emulator, event: object, description: str
) -> None:
    """The error says what was expected and what came, but none of its values, and fails the invocation."""
    answer = function.invoke(event)
    assert answer["errorType"] == "UnknownEventError"
    assert answer["errorMessage"].startswith("This function answers HTTP events")
    assert description in answer["errorMessage"]
    assert "secret words" not in str(answer)


def test_a_function_serves_on_after_an_unknown_event(function: Emulator) -> None:
    """A refused event costs the instance nothing."""
    function.invoke({"key1": "value1"})
    assert function.ask(Request("GET", "/health/live")).status == 200


def test_a_function_starts_while_its_database_is_down(function: Emulator) -> None:
    """Init succeeds without a database, and readiness says what is missing."""
    assert function.ask(Request("GET", "/health/ready")).status == 503


def test_a_function_without_settings_says_why_it_cannot_start(lambda_api: Path) -> None:
    """The platform's log has the line that names the variable."""
    with emulator(lambda_api) as running:
        running.invoke({"warm-up": True})
        assert "DATABASE_URL: is missing." in running.log()


def test_migrating_brings_an_empty_database_to_the_newest_schema(
    servers: Servers, lambda_api: Path, lambda_migrate: Path
) -> None:
    """The migrating function needs nothing but a URL; afterwards the API serves from what it made."""
    name = f"empty_{uuid4().hex}"
    servers.administer(f"CREATE DATABASE {name}")
    urls = Urls(servers.url("pooled", name), servers.url("direct", name), "pooled")
    with emulator(lambda_migrate, "api.aws_migrate.handler", **urls.variables) as running:
        first = running.invoke({})
        assert running.invoke({}) == first
    rows = servers.administer("SELECT version_num FROM alembic_version", name)
    assert rows == [(first["revision"],)]
    with emulator(lambda_api, **urls.variables) as running:
        assert running.ask(SESSION["create"][0]).status == 201


def test_migrating_refuses_a_pooler(urls: Urls, lambda_migrate: Path) -> None:
    """A pooler would tear a migration's session apart: the invocation fails and says what to set."""
    variables = {"DATABASE_URL_UNPOOLED": urls.pooled.render(hide_password=False)}
    with emulator(lambda_migrate, "api.aws_migrate.handler", **variables) as running:
        answer = running.invoke({})
    assert answer["errorType"] == "CommandError"
    assert "DATABASE_URL_UNPOOLED" in answer["errorMessage"]
