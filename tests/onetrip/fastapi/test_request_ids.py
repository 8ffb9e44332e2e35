"""A request has one id, in its answer, its problem and its log line, and a hostile one is never repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.onetrip.assertions import logged

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

# Nothing here asks for a connection.
pytestmark = pytest.mark.parametrize("route", ["pooled"])
PATHS = ("/health/live", "/nowhere", "/faults/raise", "/authors/x")


@pytest.mark.parametrize(
    "request_id",
    ["abc-123", "Root=1-67891233-abcdef012345678912345678", "a" * 128, "00-4bf92f35-01", "A.b_c:d+e/f="],
)
def test_a_sane_request_id_is_taken(faulty_client: TestClient, request_id: str) -> None:
    """The caller's id comes back, in the header and in a problem's body."""
    for path in PATHS:
        response = faulty_client.get(path, headers={"X-Request-ID": request_id})
        assert response.headers["x-request-id"] == request_id
        assert response.json().get("request_id", request_id) == request_id


@pytest.mark.parametrize(
    "request_id",
    [
        b"",
        b" ",
        b"a b",
        b"a\nb",
        b"a\r\nSet-Cookie: x=y",
        b"a\n",
        b"a\x00",
        b"a" * 129,
        "ä".encode(),
        b"\xff",
        b"<script>",
        b'"}',
        b"%0a",
        b"a,b",
        b"${jndi:x}",
    ],
)
def test_a_hostile_request_id_is_replaced(
    faulty_client: TestClient, request_id: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """An id that is long, empty or more than plain characters never gets into headers, bodies or logs."""
    for path in PATHS:
        response = faulty_client.get(path, headers=[(b"x-request-id", request_id)])
        made = response.headers["x-request-id"]
        assert len(made) == 32
        assert int(made, 16)
        assert response.json().get("request_id", made) == made
        assert response.headers.get_list("x-request-id") == [made]
    (record,) = logged(caplog)
    assert record.getMessage().isascii()
    assert record.getMessage().isprintable()
    assert request_id.strip() == b"" or request_id.decode("latin-1") not in record.getMessage()


def test_each_request_has_an_id_of_its_own(faulty_client: TestClient) -> None:
    """Without an id of the caller's, no two requests share one."""
    ids = {faulty_client.get(path).headers["x-request-id"] for path in PATHS * 2}
    assert len(ids) == 2 * len(PATHS)
