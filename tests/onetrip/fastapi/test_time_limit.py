"""A request that outlasts its deadline is answered with a whole problem."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

from lib.onetrip.fastapi.installation import install
from lib.onetrip.fastapi.middleware.time_limit import BACKSTOP_SECONDS
from lib.onetrip.pool.database import Database

if TYPE_CHECKING:
    from lib.onetrip.settings.settings import Settings

pytestmark = pytest.mark.slow


@pytest.mark.anyio
@pytest.mark.parametrize("route", ["pooled"])
async def test_a_client_that_reads_slowly_gets_the_whole_answer(
    make_settings: Callable[..., Settings],
) -> None:
    """Once a problem has begun, the deadline that it is about does not cut it off."""
    app = FastAPI()
    install(app, Database(make_settings(REQUEST_TIMEOUT_SECONDS=1)))
    sent: list[Any] = []

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    async def receive() -> Any:
        if sent:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(2 * BACKSTOP_SECONDS)
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/slow", "raw_path": b"/slow", "root_path": ""}
    more: dict[str, Any] = {
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "client": None,
    }
    await app({**scope, **more, "asgi": {"version": "3.0"}, "server": ("127.0.0.1", 80)}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 504
    assert b"urn:problem:timeout" in sent[1]["body"]
