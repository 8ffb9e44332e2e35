"""The page that `make dev` shows at `/`, unless the application has one of its own."""

from html import escape

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_LINKS = {
    "docs": "every route, to try",
    "status": "requests, round trips, pool and cold start of this process",
    "health/ready": "whether the database answers and its schema is current",
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body {{ font: 1rem/1.6 system-ui; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }}</style>
<h1>{title}</h1>
<p>It runs. Change a file in <code>api</code> or <code>lib</code>, and it is served anew.</p>
<ul>
{links}
</ul>
<p>This page is here in development alone, until a route of yours is at <code>/</code>.</p>
</html>
"""


def add_start_page(app: FastAPI) -> None:
    """Add the page behind every other route: the application's own `/` comes first."""
    links = "\n".join(f'<li><a href="{path}">/{path}</a>: {what}</li>' for path, what in _LINKS.items())
    page = _PAGE.format(title=escape(app.title), links=links)

    @app.get("/", include_in_schema=False, response_class=HTMLResponse)
    async def start_page() -> str:
        return page
