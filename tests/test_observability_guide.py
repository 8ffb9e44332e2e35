"""The lines and headers in docs/observability.md are those of this process."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.application import create_app
from lib.onetrip.observability.json_log import JSONLine
from lib.onetrip.observability.redaction import Redaction
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading
from tests.onetrip.environment import PROJECT
from tests.onetrip.fastapi import faulty

if TYPE_CHECKING:
    from lib.onetrip.settings.settings import Settings

GUIDE = (PROJECT / "docs" / "observability.md").read_text()
TOKEN = "0123456789abcdef-operator"


def _shown(kind: str) -> list[str]:
    """The guide's blocks of a kind."""
    return [block.strip() for block in re.findall(f"^```{kind}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)]


class _Lines(logging.Handler):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.setFormatter(JSONLine(Redaction(settings)))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


def _shape(value: Any) -> Any:
    """A value's types, all the way down; of a list the first's."""
    if isinstance(value, dict):
        return {name: _shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shape(part) for part in value[:1]]
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


@pytest.fixture
def said(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Any]]:
    """A line of each event, after a request, an error, a slow statement and a leak on Lambda."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    settings = make_settings(
        SLOW_QUERY_SECONDS="0.01", CONNECTION_LEAK_SECONDS="0.01", OPS_TOKEN=TOKEN, ENVIRONMENT="preview"
    )
    database, handler = Database(settings), _Lines(settings)
    app = create_app(database)
    app.include_router(faulty.router)
    loggers = [logging.getLogger(name) for name in ("lib.onetrip",)]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)

    async def lambdas(scope: Any, receive: Any, send: Any) -> None:
        context = SimpleNamespace(aws_request_id="8f5-17", get_remaining_time_in_millis=lambda: 9000)
        await app({**scope, "aws.context": context}, receive, send)

    with TestClient(lambdas, raise_server_exceptions=False) as client:
        client.get("/faults/raise")
        client.post("/faults/statements/statement-timeout")
        with reading(database) as session:
            session.execute(text("SELECT pg_sleep(0.02)"))
            client.get("/faults/read")
        client.get("/faults/read")
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    anyio.run(database.aclose)
    # Of each the fullest: some were about a request, others about work without one.
    by_size = sorted(handler.lines, key=len)
    return {line["event"]: line for line in by_size}


@pytest.mark.parametrize("route", ["pooled"])
def test_every_line_of_the_guide_is_one_that_is_written(said: dict[str, dict[str, Any]]) -> None:
    """Each has the members of the real one, of the same kinds, and none is left out."""
    shown = {line["event"]: line for block in _shown("json") for line in map(json.loads, block.splitlines())}
    assert shown.keys() >= {"request", "slow query", "a connection is held too long"}
    for event, line in shown.items():
        real = said.get(event) or next(
            found for name, found in said.items() if name.split()[:2] == event.split()[:2]
        )
        assert _shape(line) == _shape(real), event


@pytest.mark.parametrize("route", ["pooled"])
def test_every_header_of_the_guide_is_one_that_is_sent(make_settings: Callable[..., Settings]) -> None:
    """With their names, and the parts of Server-Timing."""
    (block,) = _shown("http")
    database = Database(make_settings())
    with TestClient(create_app(database)) as client:
        headers = client.get("/health/db").headers
        status = client.get("/db/pool-status").json()
    database.close()
    for line in block.splitlines():
        name, _, value = line.partition(": ")
        assert (
            re.sub(r"[\da-f]", "", headers[name]) == re.sub(r"[\da-f]", "", value) or name == "X-Request-ID"
        )
    (shown,) = _shown("jsonc")
    assert json.loads(shown).keys() == status.keys()


def test_every_file_that_the_guide_names_is_there() -> None:
    """Links and paths lead somewhere."""
    paths = re.findall(r"\]\(([^)#]+)\)", GUIDE) + re.findall(r"`((?:api|lib|tests)/[\w/.]+)`", GUIDE)
    assert paths
    for path in paths:
        assert (PROJECT / path).exists() or (PROJECT / "docs" / path).exists(), path
