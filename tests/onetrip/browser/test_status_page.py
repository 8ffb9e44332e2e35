"""The status page in a real browser: drawn from what happens, without a complaint, for keys and phones."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import anyio
import pytest
import uvicorn

from lib.onetrip.observability.recent_requests import RecentRequest
from lib.onetrip.pool.database import Database
from lib.onetrip.testing.databases import free_port
from tests.onetrip.application import create_app
from tests.onetrip.browser import chromium
from tests.onetrip.browser.chromium import Tab
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import until

if TYPE_CHECKING:
    from lib.onetrip.settings.settings import Settings
    from tests.onetrip.servers import Servers

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
    database = Database(settings)
    with _serving(create_app(database), database) as url:
        yield url


@contextmanager
def _serving(app: Any, *databases: Database) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    for database in databases:
        anyio.run(database.aclose)


@pytest.fixture
def url(make_settings: Callable[..., Settings]) -> Iterator[str]:
    """The URL of the application."""
    with _served(make_settings(DATABASE_SINGLE_FLIGHT="on")) as url:
        yield url


def _ask(url: str, times: int, path: str = "/health") -> None:
    for _ in range(times):
        with urlopen(url + path) as answer:  # noqa: S310  (our own)
            assert answer.status == 200


@pytest.mark.slow
def test_the_chart_is_fed_by_real_requests(url: str, tab: Tab) -> None:
    """Requests appear in the open page, which loads from the service alone."""
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


@pytest.mark.slow
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
    for path in ("/health", "/health/live", "/health"):
        _ask(url, 1, path)
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
    assert earlier.startswith("GET /health/live · 200 · ")
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


def test_a_request_is_chosen_by_pointing_anywhere_above_it(url: str, tab: Tab) -> None:
    """A finger or a pointer need not hit a bar that may be two pixels tall."""
    _ask(url, 3)
    tab.open(f"{url}/status", 390, 844)
    tab.until(f"{ROWS} === 3")
    box = tab.ask("(r => [r.right, r.top])(document.getElementById('chart').getBoundingClientRect())")
    point = {"x": box[0] - 3, "y": box[1] + 12}
    tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
    tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    tab.until("document.getElementById('detail').textContent.startsWith('GET /health · 200 · ')")


@pytest.mark.slow
def test_one_slow_request_does_not_flatten_the_others(
    make_settings: Callable[..., Settings], tab: Tab
) -> None:
    """An outlier's bar is cut and marked; the other bars stay readable."""
    database = Database(make_settings())
    app = create_app(database)
    for number in range(40):
        took = 0.9 if number == 20 else 0.004
        app.state.onetrip.recent.add(RecentRequest(1.0 + number, "GET", "/x", 200, took, 0.001, 1))
    with _serving(app, database) as url:
        tab.open(f"{url}/status", 1200, 900)
        tab.until(f"{ROWS} === 10")
        tall = "[...document.querySelectorAll('#chart [data-number]')].map(bar => bar.height.baseVal.value)"
        heights = tab.ask(tall)
    assert heights[20] == max(heights)
    assert min(heights) > max(heights) / 4


@pytest.mark.slow
def test_instances_behind_one_address_are_told_apart(
    make_settings: Callable[..., Settings], tab: Tab
) -> None:
    """Though each answers some of the questions, no request is lost or shown twice."""
    databases = [Database(make_settings()) for _ in range(2)]
    apps = [create_app(database) for database in databases]
    for number, app in enumerate(apps):
        for _ in range(3 + number):
            app.state.onetrip.recent.add(
                RecentRequest(float(number), "GET", f"/{number}", 200, 0.004, 0.0, 0)
            )
    turns = cycle(apps)

    async def balanced(scope: Any, receive: Any, send: Any) -> None:
        await next(turns)(scope, receive, send)

    with _serving(balanced, *databases) as url:
        tab.open(f"{url}/status", 1200, 900)
        tab.until("document.getElementById('instance').textContent.includes('2 instances')")
        tab.ask("new Promise(done => setTimeout(done, 0))")
        assert tab.ask(f"{ROWS}") == 7
        named = "[...document.querySelectorAll('#rows td:nth-child(2)')].filter(cell => cell.textContent"
        assert tab.ask(f"{named}.endsWith('0')).length") == 3


@pytest.mark.slow
def test_the_page_opens_while_the_database_is_away(
    make_settings: Callable[..., Settings], servers: Servers, tab: Tab
) -> None:
    """That is when it is wanted: it says so and what to do, and notices by itself that it is back."""
    with Proxy(("127.0.0.1", servers.postgres.port or 0)).running() as proxy:
        proxy.mode = "refuse"
        text = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        with _served(make_settings(DATABASE_URL=text, DATABASE_URL_UNPOOLED=text)) as url:
            tab.open(f"{url}/status", 1200, 900)
            tab.until("document.getElementById('state').className === 'down'")
            assert "does not answer" in tab.ask("document.getElementById('state').textContent")
            tab.until("!document.getElementById('warnings').hidden")
            assert tab.ask("document.title").startswith("(")
            assert tab.ask("document.querySelectorAll('#chart line').length") > 0
            proxy.mode = "pass"
            tab.until("document.getElementById('state').textContent === 'Ready'")


def test_what_is_wrong_stands_on_the_page(make_settings: Callable[..., Settings], tab: Tab) -> None:
    """Warnings are shown with their remedies, and only when there are any."""
    with _served(make_settings(DATABASE_SINGLE_FLIGHT="off")) as url:
        tab.open(f"{url}/status", 1200, 900)
        tab.until("!document.getElementById('warnings').hidden")
        assert "Unset DATABASE_SINGLE_FLIGHT." in tab.ask("document.getElementById('warnings').innerText")


def test_a_foreign_script_does_not_run(url: str, browser: None) -> None:  # noqa: ARG001
    """The policy holds in the browser: injected script is refused, and reported."""
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
