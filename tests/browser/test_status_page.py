"""The status page in a real browser: drawn from what happens, without a complaint, for keys and phones."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import anyio
import pytest
import uvicorn

from api.application import create_app
from lib.engine import Database
from tests.browser import chromium
from tests.browser.chromium import Tab
from tests.conftest import free_port
from tests.reliability.network import until

if TYPE_CHECKING:
    from lib.settings import Settings

ROWS = "document.querySelectorAll('#rows td:nth-child(2)').length"
FOCUSED = "document.activeElement.id"
pytestmark = pytest.mark.parametrize("route", ["pooled"])


@pytest.fixture(scope="module")
def browser() -> None:
    """The browser is there, fetched if it has to be."""
    chromium.install()


@pytest.fixture
def tab(browser: None) -> Iterator[Tab]:  # noqa: ARG001
    """An empty tab, in which nothing may go wrong."""
    with chromium.opened() as tab:
        yield tab
        tab.ask("1")
        assert tab.complaints == []


@contextmanager
def _served(settings: Settings) -> Iterator[str]:
    """The application on a port, with real HTTP in between; its URL."""
    database, port = Database(settings), free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(database), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    anyio.run(database.aclose)


@pytest.fixture
def url(make_settings: Callable[..., Settings]) -> Iterator[str]:
    """Where the application is served."""
    with _served(make_settings(DATABASE_SINGLE_FLIGHT="on")) as url:
        yield url


def _ask(url: str, times: int) -> None:
    for _ in range(times):
        with urlopen(f"{url}/health") as answer:  # noqa: S310  (our own)
            assert answer.status == 200


def test_the_chart_is_fed_by_real_requests(url: str, tab: Tab) -> None:
    """What is asked while the page stands open appears in it, from nowhere but the service itself."""
    tab.open(f"{url}/status", 1200, 900)
    tab.until("document.getElementById('state').textContent === 'Ready'")
    assert "No request yet" in tab.ask("document.getElementById('detail').textContent")
    _ask(url, 4)
    tab.until(f"{ROWS} === 4")
    assert tab.ask("document.getElementById('chart').dataset.shown") == "4"
    assert tab.ask("document.querySelectorAll('#chart [data-number]').length") == 4
    assert tab.ask("document.querySelectorAll('#places i').length") == 10
    assert tab.ask("document.querySelectorAll('#places i.open').length") == 1
    assert tab.ask("document.querySelector('#rows td:nth-child(2)').textContent").endswith("health")
    assert {address.partition("/status")[0] for address in tab.requested} <= {url, "data:,"}


def test_a_pause_holds_what_is_shown(url: str, tab: Tab) -> None:
    """The button stops the questions, says so to a screen reader, and lets them go on."""
    tab.open(f"{url}/status", 1200, 900)
    tab.until("document.getElementById('state').textContent === 'Ready'")
    tab.ask("document.getElementById('pause').click()")
    assert tab.ask("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    tab.ask("document.getElementById('pause').click()")
    _ask(url, 1)
    tab.until(f"{ROWS} === 1")


def test_the_page_is_used_by_keyboard(url: str, tab: Tab) -> None:
    """Tab reaches each control in its order, visibly; arrows choose a request, and its cost is said."""
    _ask(url, 3)
    tab.open(f"{url}/status", 1200, 900)
    tab.until(f"{ROWS} === 3")
    reached = []
    for _ in range(3):
        tab.press("Tab", 9)
        reached.append(tab.ask(FOCUSED))
        assert tab.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["pause", "chart", "ask"]
    tab.ask("document.getElementById('chart').focus()")
    tab.press("ArrowLeft", 37)
    newest = tab.ask("document.getElementById('detail').textContent")
    tab.press("ArrowLeft", 37)
    earlier = tab.ask("document.getElementById('detail').textContent")
    assert newest.startswith("GET /health · 200 · ")
    assert earlier != newest
    assert "round trip" in tab.ask("document.getElementById('detail').textContent")
    tab.press("Escape", 27)
    assert "arrow keys" in tab.ask("document.getElementById('detail').textContent")
    tab.ask("document.getElementById('pause').focus()")
    tab.press("Enter", 13)
    assert tab.ask("document.getElementById('pause').textContent") == "Go on"


@pytest.mark.parametrize(
    ("width", "dark"), [(1200, False), (1200, True), (390, False)], ids=["light", "dark", "phone"]
)
def test_the_page_fits_its_window(url: str, tab: Tab, tmp_path: Path, width: int, *, dark: bool) -> None:
    """Nothing is wider than the window, text is legible on its ground, and a thumb finds the controls."""
    _ask(url, 3)
    tab.open(f"{url}/status", width, 844, dark=dark)
    tab.until(f"{ROWS} === 3")
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert tab.ask(CONTRAST) >= 4.5
    if width < 600:
        assert tab.ask("Math.min(...[...document.querySelectorAll('button')].map(b => b.offsetHeight))") >= 40
    ground = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 23, 26)") == dark
    file = tmp_path / "status.png"
    tab.picture(file)
    assert struct.unpack(">I", file.read_bytes()[16:20]) == (width,)


def test_what_is_wrong_stands_on_the_page(make_settings: Callable[..., Settings], tab: Tab) -> None:
    """Warnings are shown with their remedies, and only when there are any."""
    with _served(make_settings(DATABASE_SINGLE_FLIGHT="off")) as url:
        tab.open(f"{url}/status", 1200, 900)
        tab.until("!document.getElementById('warnings').hidden")
        assert "Unset DATABASE_SINGLE_FLIGHT." in tab.ask("document.getElementById('warnings').innerText")


def test_a_foreign_script_does_not_run(url: str, browser: None) -> None:  # noqa: ARG001
    """The policy holds in the browser: what somebody slips into the page is refused, and complained of."""
    with chromium.opened() as tab:
        tab.open(f"{url}/status", 1200, 900)
        tab.until("document.getElementById('state').textContent === 'Ready'")
        tab.ask(
            "{ const s = document.createElement('script'); s.textContent = 'window.stolen = 1';"
            " document.body.append(s); }"
        )
        assert tab.ask("window.stolen === undefined")
        assert any("Content Security Policy" in said for said in tab.complaints)


# The least contrast of any text on the page with the ground it stands on.
CONTRAST = """(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => parse(color).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [.2126, .7152, .0722][index], 0);
  const ground = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return parse(color)[3] === 0 ? ground(element.parentElement) : color;
  };
  const texts = [...document.querySelectorAll('body *')].filter((element) => element.checkVisibility()
    && !['SCRIPT', 'STYLE'].includes(element.tagName)
    && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return Math.min(...texts.map((element) => {
    const style = getComputedStyle(element);
    const [a, b] = [light(element instanceof SVGElement ? style.fill : style.color), light(ground(element))];
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  }));
})()"""
