"""The page at `/` in development."""

from fastapi import FastAPI
from fastapi.testclient import TestClient

from dev.start_page import add_start_page


def test_the_page_leads_to_what_one_looks_for_first() -> None:
    """It names the application and links to its documentation and its status."""
    app = FastAPI(title="Notes <& more>")
    add_start_page(app)
    page = TestClient(app).get("/").text
    assert "<h1>Notes &lt;&amp; more&gt;</h1>" in page
    assert 'href="docs"' in page
    assert 'href="status"' in page
    assert "/" not in app.openapi()["paths"]


def test_the_applications_own_page_comes_first() -> None:
    """A route at `/` is served as it is written."""
    app = FastAPI()
    app.get("/")(lambda: "mine")
    add_start_page(app)
    assert TestClient(app).get("/").json() == "mine"
