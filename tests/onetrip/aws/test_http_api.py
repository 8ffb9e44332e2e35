"""HTTP API events: the scope and the response of Mangum's own handler, and headers that it fails on."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mangum.handlers import HTTPGateway

from lib.onetrip.aws.adapter import _TEXT_TYPES, adapted
from lib.onetrip.aws.http_api import HttpApiRequest
from tests.onetrip.events import SHAPES, Context, Request

CONFIG: Any = {"api_gateway_base_path": "/", "text_mime_types": _TEXT_TYPES, "exclude_headers": []}
NO_CONTEXT: Any = None
NAMES = st.sampled_from(["accept", "X-Request-Id", "x-forwarded-proto", "Cookie", "content-type", "X-Odd"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8)
HOSTS = st.sampled_from(["api.example.com", "api.example.com:8443"])
PORTS = st.sampled_from([{}, {"x-forwarded-port": "443"}])
PATHS = st.sampled_from(["/", "/a", "/a%20b", "/%C3%BC/x", "/a//b/", "/%2F", "/100%"])


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    path, body = draw(PATHS), draw(st.none() | st.just("") | TEXTS)
    is_base64 = draw(st.booleans())
    cookies = draw(st.lists(TEXTS, max_size=2))
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": draw(st.sampled_from(["", "a=1&a=2", "q=%C3%BC"])),
        "headers": {
            **draw(st.dictionaries(NAMES, TEXTS, max_size=4)),
            "host": draw(HOSTS),
            **draw(PORTS),
        },
        **({"cookies": cookies} if cookies else {}),
        "requestContext": {
            "stage": "$default",
            "http": {"method": "POST", "path": path, "sourceIp": "203.0.113.7"},
        },
        "body": base64.b64encode((body or "").encode()).decode() if is_base64 else body,
        "isBase64Encoded": is_base64,
    }


@given(events())
@settings(max_examples=300, deadline=None)
def test_the_scope_is_mangums(event: dict[str, Any]) -> None:
    """Every member of it, and the body."""
    ours, theirs = HttpApiRequest(event, NO_CONTEXT, CONFIG), HTTPGateway(event, NO_CONTEXT, CONFIG)
    assert ours.scope == theirs.scope
    assert ours.body == theirs.body


TYPES = ["application/json", "text/html; charset=utf-8", "image/png", "application/problem+json"]
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"X-A", b"set-cookie", b"vary", b"cache-control"]),
        st.sampled_from([b"", b"one", b"two, three"]),
    ),
    max_size=5,
)


@given(HEADERS, st.sampled_from(TYPES), st.sampled_from([b"", b"{}", "ü".encode(), b"\xff\x00"]))
@settings(max_examples=300, deadline=None)
def test_the_response_is_mangums(headers: list[tuple[bytes, bytes]], kind: str, body: bytes) -> None:
    """Headers of one name together, cookies apart, and what is no text in base64."""
    event: dict[str, Any] = {
        "version": "2.0",
        "requestContext": {"http": {"method": "GET", "path": "/", "sourceIp": ""}},
    }
    event["headers"] = {}
    response: Any = {"status": 200, "headers": [*headers, (b"content-type", kind.encode())], "body": body}
    assert HttpApiRequest(event, NO_CONTEXT, CONFIG)(response) == HTTPGateway(event, NO_CONTEXT, CONFIG)(
        response
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_response_header_in_latin_1_is_passed_on(shape: str) -> None:
    """As Starlette encodes headers; Mangum takes them for UTF-8, and failed."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"x-name", "Zoë".encode("latin-1")), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    served: Any = app
    handler = adapted(served)
    try:
        context: Any = Context()
        answer = handler(SHAPES[shape](Request("GET", "/")), context)
    finally:
        asyncio.get_event_loop().close()
        asyncio.set_event_loop(None)
    single, several = answer.get("headers") or {}, answer.get("multiValueHeaders") or {}
    assert "Zoë" in (single.get("x-name"), *several.get("x-name", ()))
    assert answer["body"] == "ok"
