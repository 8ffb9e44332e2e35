"""The pages in docs/ hold: commands run, snippets work, links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from lib.onetrip.doctor.checks import IDS
from lib.onetrip.server_messages import MESSAGES
from lib.onetrip.settings.settings import environment_with
from lib.onetrip.url.database_url import DatabaseURL
from tests.conftest import alembic
from tests.documents import DOCS, PAGES, blocks
from tests.onetrip.environment import PROJECT
from tests.onetrip.servers import Servers

# The pages all of whose commands and snippets are run here; the others have tests of their own.
RUN = (
    "capacity",
    "compiled-queries",
    "configuration",
    "deadlines",
    "performance",
    "sessions",
    "troubleshooting",
)
# Untracked files of a work tree.
LEFT = ("__pycache__", ".git", ".venv", ".tools", ".postgres", "build", "node_modules", ".*_cache", ".env")
OUTPUT = {"text", "json"}
NOTES = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL)"
PARTS = "CREATE TABLE parts (id int PRIMARY KEY, name text NOT NULL); INSERT INTO parts VALUES (1, 'gear')"
ANSWERS = (PROJECT / "lib/onetrip/fastapi/problem_details.py").read_text()
# Searched words: the headings of other guides' troubleshooting, and the messages of the programs.
WORDS = (
    *("connection refused", "too many connections", "SSL certificate problem", "connection timeout"),
    *("idle connections", "auto-pauses", "stale", "slow queries", "connection was closed by the remote end"),
    *("SSL connection has been closed unexpectedly", "no more connections allowed", "DetachedInstanceError"),
    *("no such table", "session (manager) is not initialized", "context manager protocol", "pool exhausted"),
    *(
        "password authentication failed",
        "channel binding",
        "unsupported startup parameter",
        "QueuePool limit",
    ),
    *("too many clients already", "remaining connection slots", "server closed the connection unexpectedly"),
    *("could not translate host name", "certificate verify failed", "no pg_hba.conf entry", "sslrootcert"),
    *("endpoint is disabled", "quota", "connect to compute node", "acquire permit", "control plane request"),
    *("not permitted to log in", "permission denied for database", "address … is not allowed"),
    *("statement timeout", "lock timeout", "permission denied", "read-only transaction", "MissingGreenlet"),
    *(
        "prepared statement",
        "event loop is closed",
        "unable to infer a handler",
        "sqlalchemy.dialects:postgres",
    ),
    *("psycopg2", "not an executable object", "base64", "/docs", "/status", "log in", "413", "429"),
    *(
        "UnreservedConcurrentExecution",
        "vercel.json",
        "No module named",
        "nothing is stored",
        "behind",
        "ahead",
    ),
)
# After a page's snippets: its routes, if it has any, are mounted and asked.
ASK = """
import re
from fastapi.testclient import TestClient
from api.application import create_app
from lib.onetrip.pool.database import database

if "router" in globals():
    app = create_app(database())
    app.include_router(router)
    with TestClient(app) as client:
        for route in router.routes:
            if not hasattr(route, "methods"):
                with client.websocket_connect(route.path) as talk:
                    talk.send_text("x")
                    assert talk.receive_text()
                continue
            path = re.sub(r"{\\w+}", "1", route.path)
            answer = client.request(min(route.methods), path, json={"text": "x"})
            assert answer.status_code < 400, (path, answer.text)
            assert answer.text, path
    print("all asked")
database().close()
"""

# After the README's snippets: its engine and its routes are used.
COUNT_NOTES = """
from fastapi.testclient import TestClient

with TestClient(app) as client:
    assert client.post("/notes?note=kept").status_code == 201
    counted = client.get("/notes/count").json()
with engine.connect() as connection:
    print(connection.execute(text("SELECT count(*) FROM notes")).scalar_one(), "and", counted)
onetrip.database().close()
engine.dispose()
"""

# Instead: what each route's docstring begins with, and what its answer says of itself.
COUNT = """
from fastapi.testclient import TestClient
from api.application import create_app
from lib.onetrip.pool.database import database

app = create_app(database())
app.include_router(router)
with TestClient(app) as client:
    client.get("/health/db")
    for route in router.routes:
        answer = client.request(min(route.methods), route.path)
        print(route.endpoint.__doc__.split()[0], "|", answer.headers["Server-Timing"])
database().close()
"""


def _anchors(page: Path) -> set[str]:
    """The headings as GitHub makes them into anchors."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links(page: Path) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link to a file, or to a heading in it, finds it."""
    broken = []
    for link in _links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_leads_to_every_page() -> None:
    """Every page is linked from the README."""
    linked = {(PROJECT / link.partition("#")[0]).resolve() for link in _links(PROJECT / "README.md")}
    assert [page.name for page in DOCS.glob("*.md") if page not in linked] == []


def test_the_index_for_assistants_names_every_page() -> None:
    """The links of llms.txt lead somewhere, and no page is missing."""
    linked = {(PROJECT / link).resolve() for link in _links(PROJECT / "llms.txt")}
    assert [str(path) for path in linked if not path.exists()] == []
    written = {page for page in DOCS.glob("*.md") if page.stem != "licences"}
    assert [page.name for page in written if page not in linked] == []


@pytest.mark.parametrize("name", RUN)
def test_every_block_is_of_a_kind_that_is_run(name: str) -> None:
    """No command or snippet hides behind another name."""
    kinds = {kind for kind, _ in blocks(DOCS / f"{name}.md")}
    assert kinds <= {"sh", "python", "sql"} | OUTPUT


def _pages_with(kind: str) -> list[str]:
    return [name for name in RUN if any(block[0] == kind for block in blocks(DOCS / f"{name}.md"))]


@pytest.fixture(scope="module")
def migrated(servers: Servers, template: str) -> DatabaseURL:
    """A migrated database with a table of notes, reached as a role with no rights to spare."""
    assert template
    name = f"docs_{uuid4().hex[:12]}"
    servers.administer(f"CREATE ROLE {name} LOGIN CREATEROLE")
    servers.administer(f"GRANT app_caller TO {name} WITH ADMIN OPTION")
    servers.administer(f"CREATE DATABASE {name} OWNER {name}")
    url = replace(servers.url("direct", name), user=name)
    alembic(url, "upgrade", "head")
    servers.administer(f"SET ROLE {name}; {NOTES}; {PARTS}", name)
    return url


@pytest.fixture
def url(servers: Servers, migrated: DatabaseURL) -> DatabaseURL:
    """The same with no notes in it."""
    servers.administer("TRUNCATE notes", migrated.database or "")
    return migrated


@pytest.mark.slow
@pytest.mark.parametrize("name", _pages_with("python"))
def test_every_snippet_works(name: str, url: DatabaseURL, tmp_path: Path) -> None:
    """A page's snippets are run one after the other, and its routes are asked."""
    snippets = [block for kind, block in blocks(DOCS / f"{name}.md") if kind == "python"]
    said = _run([sys.executable, "-W", "error", "-c", "\n".join([*snippets, ASK])], url, tmp_path)
    assert said == ("" if name in {"capacity", "configuration"} else "all asked\n")


@pytest.mark.slow
def test_the_readmes_snippets_work(url: DatabaseURL, tmp_path: Path) -> None:
    """The README's engine connects, and its application writes a note and counts it."""
    snippets = [block for kind, block in blocks(PROJECT / "README.md") if kind == "python"]
    # Installed it is `onetrip`; here the package is a folder.
    code = re.sub(
        r"^import onetrip$", "import lib.onetrip as onetrip", "\n".join(snippets), flags=re.MULTILINE
    )
    code = re.sub(r"^from onetrip\b", "from lib.onetrip", code, flags=re.MULTILINE)
    code = code.replace("postgresql://user:password@host/database", url.render(hide_password=False))
    assert _run([sys.executable, "-W", "error", "-c", code + COUNT_NOTES], url, tmp_path) == "1 and 1\n"


@pytest.mark.slow
def test_a_route_costs_as_many_round_trips_as_its_docstring_says(
    url: DatabaseURL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page on making it quick counts right, which is about the single flight."""
    monkeypatch.setenv("DATABASE_SINGLE_FLIGHT", "on")
    snippets = [block for kind, block in blocks(DOCS / "performance.md") if kind == "python"]
    counted = _run([sys.executable, "-c", "\n".join([*snippets, COUNT])], url, tmp_path).splitlines()
    assert len(counted) == 5
    for line in counted:
        said, timing = line.split(" | ")
        assert f'"round trips: {said}"' in timing, line


@pytest.mark.slow
@pytest.mark.parametrize("name", _pages_with("sh"))
def test_every_command_works(name: str, url: DatabaseURL, tmp_path: Path) -> None:
    """A page's commands end well in a fresh copy of the tree, on a database in good order."""
    serving = replace(url, user="app_caller")
    tree = shutil.copytree(PROJECT, tmp_path / "tree", ignore=shutil.ignore_patterns(*LEFT))
    make = f"make BIN={Path(sys.executable).parent} --assume-old=.venv/.installed"
    for kind, block in blocks(DOCS / f"{name}.md"):
        if kind == "sh":
            command = re.sub(r"\bmake\b", make, block).replace(".venv/bin/python", sys.executable)
            _run(["sh", "-ec", command], serving, tree)


def test_the_role_for_requests_satisfies_the_doctor(
    servers: Servers, migrated: DatabaseURL, tmp_path: Path
) -> None:
    """After the page's statement the serving role logs in, and the doctor finds no right too many."""
    ((_, statement),) = [block for block in blocks(DOCS / "troubleshooting.md") if block[0] == "sql"]
    servers.administer(statement)
    url = replace(migrated, user="app_caller")
    _run([sys.executable, "-m", "lib.onetrip.doctor", "--only", "role", "schema", "direct"], url, tmp_path)


def _symptoms() -> list[list[str]]:
    """The rows of the page's tables: symptom, check, cause, remedy."""
    lines = (DOCS / "troubleshooting.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if row[0] != "symptom" and not row[0].startswith("---")]


def test_the_page_of_symptoms_knows_every_check() -> None:
    """Each of the doctor's checks is the answer to some symptom, and no other is named."""
    assert {len(row) for row in _symptoms()} == {4}
    assert {name for row in _symptoms() for name in re.findall(r"`(\w+)`", row[1])} == {*IDS}


@pytest.mark.parametrize("words", WORDS)
def test_the_words_of_an_error_are_found_among_the_symptoms(words: str) -> None:
    """A search for the words of an error finds a row, with a cause and a remedy."""
    found = [row for row in _symptoms() if words.lower() in row[0].lower()]
    assert found
    assert all(cause and remedy for row in found for cause, remedy in [row[2:]])


@pytest.mark.parametrize("words", [message.words for message in MESSAGES])
def test_what_the_doctor_understands_of_a_refusal_is_a_symptom(words: str) -> None:
    """For each kind of words that a server refuses with, the page has a row with some of them."""
    symptoms = [row[0].replace(" …", " ").replace('"', "") for row in _symptoms() if row[1]]
    assert any(re.search(words, symptom, re.IGNORECASE) for symptom in symptoms)


@pytest.mark.parametrize("detail", re.findall(r'_Answer\(5\d\d, "([^.]*)', ANSWERS))
def test_an_answer_that_is_the_servers_fault_is_a_symptom(detail: str) -> None:
    """The detail of each 5xx is explained on the page."""
    assert any(detail in row[0] for row in _symptoms())


def _run(command: list[str], url: DatabaseURL, folder: Path) -> str:
    text = url.render(hide_password=False)
    given = {"DATABASE_URL": text, "DATABASE_URL_UNPOOLED": text, "DATABASE_MODE": "direct"}
    # A make above this one hands down its own variables by these.
    environment = environment_with(**given, PYTHONPATH=os.fspath(PROJECT), MAKEFLAGS="", ARGS="")
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout
