"""The commands, names and snippets that no other test runs are those of this project and its tools."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import botocore.session
import psycopg
import pytest

from benchmarks.__main__ import BENCHMARKS
from deploy.lambda_package import ARCHITECTURES, FUNCTIONS
from lib.onetrip.settings.settings import Settings, dev_port, environment_with
from lib.revisions import REVISIONS
from lib.settings import OWN
from tests.documents import DOCS, PAGES, PROJECT, Command, blocks, commands, spans
from tests.onetrip.servers import Servers

DEPLOYING, GUIDE = DOCS / "deploying.md", DOCS / "use-it-in-your-app.md"
VARIABLE = r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b"
# The kinds of blocks of each page, and which test runs or compares them.
CHECKED = {
    "AGENTS": {"sh"},  # here
    "CONTRIBUTING": {"sh"},  # here
    "README": {"sh", "python", "mermaid"},  # here, and test_documentation_pages
    "capacity": {"python"},  # test_documentation_pages
    "compiled-queries": {"python"},  # test_documentation_pages
    "configuration": {"sh", "python"},  # test_documentation_pages
    "deadlines": {"python"},  # test_documentation_pages
    "deploying": {"sh", "json", "text"},  # here, and packages/test_deploying
    "existing-app": {"sh", "diff", "python"},  # adoption/test_adoption
    "observability": {"json", "jsonc", "http"},  # test_observability_guide
    "performance": {"python"},  # test_documentation_pages
    "questions": {"text"},  # here
    "sessions": {"python"},  # test_documentation_pages
    "troubleshooting": {"sh", "sql"},  # test_documentation_pages
    "testing": {"python", "text"},  # test_testing_page
    "use-it-in-your-app": {"sh", "python", "sql"},  # dev/test_new, and the last here
}
# Options of foreign tools on the pages; packages/test_deploying checks those of the pinned tools.
OPTIONS = {
    "aws secretsmanager create-secret": {"--name", "--secret-string"},
    "osls deploy": {"--stage", "--param", "--region"},
    "osls invoke": {"--stage", "--function", "--param"},
    "osls logs": {"--stage", "--function", "--param"},
    "osls remove": {"--stage", "--param"},
    "pip install": set(),
    "pre-commit install": set(),
    "vercel": {"--prebuilt", "--prod"},
}
SHELL = {"cd", "export", "cp", "rm", "rm -r", "mkdir", "mkdir kept", "sed", "mv kept"}
# Files that the pages speak of though they are not there: names to avoid, and what a reader will make.
ABSENT = {
    *(
        "api/app.py",
        "api/main.py",
        "api/server.py",
        "api/routes/notes.py",
        "api/routes/shelves.py",
        "lib/models.py",
    ),
    *("tests/test_notes.py", "lib/", "api/", "build/", "build/vercel", "docs/"),
}
HERE = "tests/test_documentation_commands.py"
# Variables of others, which no file of ours reads or sets.
FOREIGN = {"PYDANTIC_DISABLE_PLUGINS"}
FOLDERS = r"(?:api|lib|tests|docs|deploy|dev|benchmarks|\.github|\.ci|\.devcontainer)"


def _ids(path: Path) -> str:
    return path.stem


def _all_commands(*pages: Path) -> list[Command]:
    return [command for page in pages for command in commands(page)]


def test_every_kind_of_block_has_its_test() -> None:
    """A page that shows something new has to say who checks it."""
    kinds = {
        page.stem: {kind for kind, _ in blocks(page)} for page in PAGES if page.parent != DOCS / "benchmarks"
    }
    assert {name: of for name, of in kinds.items() if of} == CHECKED


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_every_make_target_is_one(page: Path) -> None:
    """Each make target of a page exists, and so do the arguments that it is given."""
    targets = set(re.findall(r"^([a-z][\w-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    code = [block for kind, block in blocks(page) if kind == "sh"] + spans(page)
    made = {target for part in code for target in re.findall(r"\bmake ([a-z][\w-]*)", part)}
    assert made <= targets
    assert set(re.findall(r"make bench ARGS=(\w+)", text)) <= {*BENCHMARKS}


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    """A path in a page, in its text or in a drawing, leads to a file, a folder or a module."""
    code = [text for kind, text in blocks(page) if kind in {"text", "mermaid"}] + spans(page)
    named = {path for part in code for path in re.findall(rf"(?<![\w/.-]){FOLDERS}/[\w./-]*", part)}
    missing = [name for name in named - ABSENT if not _is_there(name.rstrip("."))]
    assert missing == []


def _is_there(name: str) -> bool:
    return (PROJECT / name).exists() or (PROJECT / f"{name}.py").exists()


@cache
def _known_variables() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    others = [PROJECT / name for name in listed.stdout.split("\0") if name and name != HERE]
    files = [path for path in others if path.suffix != ".md" and path.is_file()]
    return {name for path in files for name in re.findall(VARIABLE, path.read_text(errors="replace"))}


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_every_variable_that_is_named_is_known(page: Path) -> None:
    """A variable in a page is one that the code, the workflows or the platforms' files speak of."""
    named = {name for span in spans(page) for name in re.findall(VARIABLE, span)}
    assert named - FOREIGN - _known_variables() == set()


def test_commands_of_others_have_only_options_that_are_checked() -> None:
    """Each option that a page gives to a foreign program is compared with that program."""
    found = _all_commands(PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", DEPLOYING)
    others = [each for each in found if not each.name.startswith("make ") and each.name not in SHELL]
    assert {each.name for each in others} <= OPTIONS.keys()
    assert {each.name for each in others} >= {"vercel", "osls deploy", "aws secretsmanager create-secret"}
    assert [each for each in others if not each.options <= OPTIONS[each.name]] == []


def test_aws_takes_what_its_command_is_given() -> None:
    """AWS's own description of its service has the operation and its parameters."""
    service = botocore.session.Session().get_service_model("secretsmanager")
    members = service.operation_model("CreateSecret").input_shape.members
    given = OPTIONS["aws secretsmanager create-secret"]
    assert given <= {"--" + re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() for name in members}


def test_every_parameter_of_a_deployment_is_the_templates() -> None:
    """The table's names and defaults are those of serverless.yml, and no command passes another."""
    template = (PROJECT / "serverless.yml").read_text()
    defaults = dict(re.findall(r"^ {4}(\w+): (\S+)$", template.partition("\nprovider:")[0], re.MULTILINE))
    section = DEPLOYING.read_text().partition("| parameter | default |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in section.splitlines()[2:]]
    listed = {name: row[1].strip("`") for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert listed.keys() >= defaults.keys() - {"layers"}
    assert {name for name in listed if f"${{param:{name}" not in template and name not in template} == set()
    single = {name: default for name, default in listed.items() if name in defaults and "," not in default}
    told = {"jwtSecretKey": '""', "layers": "[]"}
    assert {name: told.get(name, default) for name, default in single.items()} == {
        n: defaults[n] for n in single
    }
    passed = re.findall(r"--param=(\w+)=", DEPLOYING.read_text())
    assert {*passed} - {"name"} <= {*listed}


def test_the_deploy_button_asks_for_what_there_is() -> None:
    """Its URL is well-formed: a store that Neon provides, and variables that are settings."""
    (url,) = re.findall(r"\((https://vercel\.com/new/clone\?[^)]*)\)", DEPLOYING.read_text())
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query, strict_parsing=True).items()}
    (product,) = json.loads(asked["products"])
    assert (product["integrationSlug"], product["protocol"]) == ("neon", "storage")
    known = {name.upper() for kind in (Settings, *OWN) for name in kind.model_fields}
    assert {*asked["env"].split(",")} <= known


def test_what_deploying_prints_is_what_the_page_shows() -> None:
    """The packages' names, the newest revision and the workflows are those of now, and its JSON is JSON."""
    text = DEPLOYING.read_text()
    documents = [json.loads(block) for kind, block in blocks(DEPLOYING) if kind == "json"]
    assert {"revision": REVISIONS[-1]} in documents
    packages = {f"{function.name}-{processor}.zip" for function in FUNCTIONS for processor in ARCHITECTURES}
    assert {*re.findall(r"build/lambda/(\S+\.zip)", text)} == packages
    workflows = {path.name for path in (PROJECT / ".github/workflows").iterdir()}
    assert {*re.findall(r"^\| `(\w+\.yml)`", text, re.MULTILINE)} == workflows


def test_what_a_build_says_of_its_database_is_in_the_page() -> None:
    """Each line of the page's table of messages is one of the build step's."""
    source = re.sub(r'"\s+f?"', "", (PROJECT / "deploy/preview_migration.py").read_text())
    section = DEPLOYING.read_text().partition("| the build's log says |")[2].partition("\n\n")[0]
    messages = re.findall(r"`([^`]+)`", section)
    assert len(messages) == 6
    for message in messages:
        parts = re.split(r"ep-…|…|preview database|The database is left as it is: |\.$", message)
        assert all(part.strip(" ().") in source for part in parts), message


@pytest.mark.slow
def test_migrating_as_the_page_says_prints_a_line_for_each_migration(servers: Servers) -> None:
    """`make migrate` needs no more than a pooled URL, and names what it applied."""
    name = f"deploying_{uuid4().hex[:12]}"
    servers.administer(f"CREATE DATABASE {name}")
    (line,) = [
        line
        for kind, text in blocks(DEPLOYING)
        if kind == "sh"
        for line in text.splitlines()
        if "make migrate" in line
    ]
    url = servers.url("direct", name).render(hide_password=False)
    command = re.sub(r"DATABASE_URL='[^']+'", f"DATABASE_URL='{url}'", line)
    command = command.replace(
        "make ", f"make BIN={Path(sys.executable).parent} --assume-old=.venv/.installed "
    )
    # As from a shell, though a make may have started this suite.
    environment = environment_with(MAKEFLAGS="", MAKELEVEL="0", ARGS="")
    done = subprocess.run(
        ["sh", "-ec", command], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^up (\w+) ", done.stdout, re.MULTILINE) == [*REVISIONS]
    assert servers.administer("SELECT version_num FROM alembic_version", name) == [(REVISIONS[-1],)]
    servers.administer(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_page_of_questions_shows_the_output_of_make_dev() -> None:
    """Each line of the first output is one of the server's, but for its numbers."""
    (shown,) = [text for kind, text in blocks(DOCS / "questions.md") if text.startswith("Starting")]
    files = ("dev/database.py", "dev/server.py", "lib/example/seed.py")
    source = "".join((PROJECT / name).read_text() for name in files)
    said = shown.replace("http://127.0.0.1:8000", "{url}").replace(".postgres/data", "…").splitlines()
    assert len(said) == 5
    for line in said:
        assert all(part in source for part in re.split(r"…/\)|…|\d+", line)), line


def test_a_table_is_closed_by_what_the_guide_says(servers: Servers, template: str) -> None:
    """Its three lines run on a table of notes with owners, and a caller then sees their own only."""
    with servers.copy(template) as name:
        servers.administer("CREATE TABLE notes (owner_id bigint); INSERT INTO notes VALUES (1), (2)", name)
        ((_, statements),) = [block for block in blocks(GUIDE) if block[0] == "sql"]
        servers.administer(statements, name)
        arguments: Any = servers.url("direct", name).connect_arguments()
        with psycopg.connect(**arguments, autocommit=True) as connection:
            connection.execute("SET ROLE app_caller")
            connection.execute("SELECT set_config('app.caller_id', '1', false)")
            assert connection.execute("SELECT owner_id FROM notes").fetchall() == [(1,)]


def test_the_container_is_one_that_can_be_opened() -> None:
    """The editor's container makes what there is, on a Python that is supported, and shows the right port."""
    container = json.loads((PROJECT / ".devcontainer/devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make install"
    assert container["forwardPorts"] == [dev_port()]
    assert re.fullmatch(r"python:3\.1[1-4]-\w+", container["image"])
