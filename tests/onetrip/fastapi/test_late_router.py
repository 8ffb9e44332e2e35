"""A router that is included on demand is imported late, and is otherwise the router that FastAPI includes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from textwrap import dedent
from threading import Barrier
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import NoMatchFound

from lib.onetrip.errors import UsageError
from lib.onetrip.fastapi.late_router import LateRouter, include_on_demand
from lib.onetrip.fastapi.route_search import STOCK, IncludedRouter, complete_routes, search_by_beginning

# The modules, and what their paths begin with.
ROUTED = {
    "late_people": ["/people/me", "/people/{person}/notes"],
    "late_things": ["/things", "/people"],
    "late_files": ["/files"],
}
MODULES = {
    "late_people": """
        from fastapi import APIRouter
        router = APIRouter(tags=["people"])

        @router.post("/people/me")
        async def make_me() -> str:
            return "made"

        @router.get("/people/{person:int}/notes")
        async def read_notes(person: int) -> list[int]:
            return [person]
    """,
    "late_things": """
        import sys
        from typing import Annotated
        from fastapi import APIRouter, Depends, WebSocket

        def color() -> str:
            return "red"

        sys.modules[__name__].imports = getattr(sys, "late_imports", 0) + 1
        sys.late_imports = sys.modules[__name__].imports
        router = APIRouter(prefix="")

        @router.get("/people/{person}")
        async def read_person(person: str) -> str:
            return person

        @router.get("/things", name="things")
        async def read_things(color: Annotated[str, Depends(color)]) -> list[str]:
            return [color]

        @router.delete("/things/{key}")
        async def delete_thing(key: int) -> int:
            return key

        @router.websocket("/things/socket")
        async def socket(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("here")
            await websocket.close()
    """,
    "late_files": """
        from fastapi import APIRouter
        router = APIRouter(prefix="/files")

        @router.get("/{path:path}")
        async def read_file(path: str) -> str:
            return path
    """,
}
PATHS = (
    *("/", "/v1", "/v1/things", "/v1/things/", "/v1/things/7", "/v1/things/x", "/v1/thingsx", "/things"),
    *("/v1/people/me", "/v1/people/7", "/v1/people/7/notes", "/v1/people/x/notes", "/v1/people/7/notes/"),
    *("/v1/people", "/v1/files", "/v1/files/a/b", "/v1/nowhere", "/plain"),
)


@pytest.fixture(autouse=True)
def modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """A folder of modules with routers, in a process that was started for a request."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VERCEL", getattr(request, "param", "1"))
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)
    if hasattr(sys, "late_imports"):
        del sys.late_imports


def _app(*, late: bool, **options: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    for name, paths in ROUTED.items():
        if late:
            include_on_demand(app, f"{name}:router", prefix="/v1", paths=paths, **options)
        else:
            app.include_router(__import__(name).router, prefix="/v1", **options)
    return app


def _imported() -> set[str]:
    return set(ROUTED) & set(sys.modules)


def _client(app: FastAPI) -> TestClient:
    return TestClient(app, follow_redirects=False)


@pytest.mark.parametrize("search", ["FastAPI's", "ours"])
def test_every_answer_is_that_of_a_router_included_plainly(
    monkeypatch: pytest.MonkeyPatch, search: str
) -> None:
    """Status, body, redirect and Allow are the same for each path and method, whichever comes first."""
    for name, stock in STOCK.items():
        monkeypatch.setattr(IncludedRouter, name, stock)
    if search == "ours":
        search_by_beginning()
    for path in PATHS:
        for method in ("GET", "POST", "DELETE", "HEAD"):
            answers = [_client(_app(late=late)).request(method, path) for late in (True, False)]
            late, plain = ((each.status_code, each.content, each.headers.items()) for each in answers)
            assert list(late[2]) == list(plain[2]), (method, path)
            assert late[:2] == plain[:2], (method, path)


def test_a_request_imports_its_own_router_alone() -> None:
    """A path of no router, of the application's own or of another router imports nothing."""
    client = _client(_app(late=True))
    for path in ("/plain", "/v1/nowhere", "/v1/thingsx", "/", "/things"):
        client.get(path)
    assert _imported() == set()
    assert client.get("/v1/files/a/b").json() == "a/b"
    assert _imported() == {"late_files"}
    assert client.get("/v1/people/7").json() == "7"
    assert _imported() == {"late_files", "late_things"}
    assert client.get("/v1/people/7/notes").json() == [7]
    assert _imported() == set(ROUTED)


def test_a_websocket_finds_its_router() -> None:
    """A WebSocket's path imports its router as a request's does."""
    with TestClient(_app(late=True)).websocket_connect("/v1/things/socket") as socket:
        assert socket.receive_text() == "here"


def test_an_imported_router_is_fastapis_own() -> None:
    """Nothing is left of the late router, so later requests pay nothing for it."""
    app = _app(late=True)
    late = [route for route in app.routes if isinstance(route, LateRouter)]
    assert len(late) == len(ROUTED)
    complete_routes(app)
    assert {type(route) for route in late} == {IncludedRouter}


def test_the_description_has_all_routes_in_their_order() -> None:
    """The document is that of plain inclusion, options included, whether requests came before or not."""
    options = {"tags": ["all"], "dependencies": [Depends(lambda: None)], "deprecated": True}
    plain = _app(late=False, **options)
    asked = _app(late=True, **options)
    _client(asked).get("/v1/files/a")
    for app in (_app(late=True, **options), asked):
        assert _client(app).get("/openapi.json").text == _client(plain).get("/openapi.json").text


def test_whatever_walks_the_routes_finds_them_all() -> None:
    """`app.routes`, its contexts, and URLs by name are complete."""
    for look in (iter_route_contexts, lambda routes: [*map(repr, routes)]):
        app = _app(late=True)
        list(look(app.routes))
        assert not [route for route in app.routes if type(route) is LateRouter]
    assert _app(late=True).url_path_for("things") == "/v1/things"
    with pytest.raises(NoMatchFound):
        _app(late=True).url_path_for("nothing")
    paths, plain = (
        [context.path for context in iter_route_contexts(_app(late=late).routes)] for late in (True, False)
    )
    assert paths == plain


def test_overrides_of_dependencies_hold() -> None:
    """An override that is set before or after the import is used."""
    app = _app(late=True)
    client = _client(app)
    assert client.get("/v1/things").json() == ["red"]
    app.dependency_overrides[sys.modules["late_things"].color] = lambda: "blue"
    assert client.get("/v1/things").json() == ["blue"]


def test_first_requests_in_many_threads_import_once(modules: Path) -> None:
    """Threads that need a router at the same moment all find it, made once."""
    (modules / "late_things.py").write_text(
        "import time; time.sleep(0.05)\n" + (modules / "late_things.py").read_text()
    )
    app, together = _app(late=True), Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        return _client(app).get("/v1/things").status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(8))) == {200}
    assert sys.modules["late_things"].imports == 1
    assert len(list(iter_route_contexts(app.routes))) == len(
        list(iter_route_contexts(_app(late=False).routes))
    )


@pytest.mark.parametrize("modules", [""], indirect=True)
def test_elsewhere_a_router_is_imported_at_once(modules: Path) -> None:
    """Where no request waits for the start, nothing is put off, and a mistake in a module is met at once."""
    _app(late=True)
    assert _imported() == set(ROUTED)
    (modules / "late_broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        include_on_demand(FastAPI(), "late_broken:router", paths=["/broken"])


def test_a_module_that_cannot_be_imported_fails_its_own_paths_alone(modules: Path) -> None:
    """Other routes answer; those of the broken module fail each time, and are there once it is mended."""
    (modules / "late_files.py").write_text("import nothing_of_this_name\n")
    app = _app(late=True)
    client = _client(app)
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
            client.get("/v1/files/a")
    assert client.get("/v1/things").status_code == 200
    (modules / "late_files.py").write_text(dedent(MODULES["late_files"]))
    assert client.get("/v1/files/a").json() == "a"


def _with(change: str) -> APIRouter:
    async def nothing() -> None:
        """Answer nothing."""

    router = APIRouter(prefix="/things")
    router.add_api_route("", nothing)
    if change == "another path":
        router.prefix = "/others"
        router.add_api_route("/x", nothing)
    elif change == "a parameter ahead":
        router = APIRouter()
        router.add_api_route("/{anything}", nothing)
    elif change == "a parameter with slashes":
        router.add_api_route("/parts/{path:path}/end", nothing)
    elif change == "a host":
        router.host("example.com", FastAPI())
    elif change == "a startup handler":
        router.on_startup.append(nothing)
    elif change == "a shutdown handler":
        router.on_shutdown.append(nothing)
    elif change == "a lifespan":
        router = APIRouter(lifespan=lambda _app: nullcontext())
    elif change == "a router within it":
        router.include_router(APIRouter())
    return router


@pytest.mark.parametrize(
    ("change", "paths", "told"),
    [
        ("another path", ["/things"], "/others/x begins with none of `paths`. Add it"),
        ("a parameter ahead", ["/things"], "/{anything} begins with none of `paths`. Add it"),
        ("a parameter with slashes", ["/things/parts/{x}/end", "/things/{x}/b"], "begins with none of"),
        ("a host", ["/things"], "the route of a host begins with none of"),
        ("a startup handler", ["/things"], "cannot be included late. Use app.include_router"),
        ("a shutdown handler", ["/things"], "cannot be included late. Use app.include_router"),
        ("a lifespan", ["/things"], "cannot be included late. Use app.include_router"),
        ("a router within it", ["/things"], "cannot be included late. Use app.include_router"),
    ],
)
@pytest.mark.parametrize("modules", [""], indirect=True)
def test_what_would_be_lost_is_refused(change: str, paths: list[str], told: str) -> None:
    """A route that no request would find, and what should run at the start, are refused where it is found."""
    sys.modules["late_files"] = type(sys)("late_files")
    sys.modules["late_files"].router = _with(change)  # type: ignore[attr-defined]
    with pytest.raises(UsageError) as met:
        include_on_demand(FastAPI(), "late_files:router", paths=paths)
    assert told in str(met.value)
    assert "(late_files:router)" in str(met.value)
