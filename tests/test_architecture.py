"""The structure of the code: each rule in a few lines, kept by every file, shown to catch an offender."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = "lib/onetrip/"
LONGEST_FILE = 300
LONGEST_FUNCTION = 45
MOST_FILES_IN_A_FOLDER = 18


@dataclass(frozen=True)
class Module:
    """A file of the project's, read and parsed but never imported."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def imports(self) -> set[str]:
        """Every name that is imported, with its module's: `from lib import engine` is `lib.engine`."""
        return {name for node in self.nodes for name in self._imported_by(node)}

    @cached_property
    def imports_when_run(self) -> set[str]:
        """The same without the names that only a type checker imports."""
        checked = [node for node in self.nodes if isinstance(node, ast.If) and _is_type_checking(node.test)]
        typed = {id(inner) for node in checked for inner in ast.walk(node)}
        return {name for node in self.nodes if id(node) not in typed for name in self._imported_by(node)}

    @cached_property
    def reaches_for(self) -> set[str]:
        """The last part of every name imported, or reached through a dot: `environ` of `os.environ`."""
        attributes = {node.attr for node in self.nodes if isinstance(node, ast.Attribute)}
        return attributes | {name.rpartition(".")[2] for name in self.imports}

    def imports_any(self, *packages: str) -> list[str]:
        return sorted(name for name in self.imports if any(f"{name}.".startswith(f"{p}.") for p in packages))

    def is_in(self, *folders: str) -> bool:
        return self.path.startswith(folders)

    def _imported_by(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = self.path.split("/")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


Rule = Callable[[Module], bool]


def the_package_knows_no_application(module: Module) -> bool:
    """The package imports itself by relative names and nothing else of this project, so it installs alone."""
    inside = module.is_in(PACKAGE)
    absolute = {
        node.module.partition(".")[0]
        for node in module.nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    foreign = [name for name in module.imports_any("lib") if not f"{name}.".startswith("lib.onetrip.")]
    return not (inside and (foreign or module.imports_any("api", "dev", "deploy") or "lib" in absolute))


def lib_knows_nothing_of_api(module: Module) -> bool:
    """Routes know the library, never the other way round; nothing deployed knows the development server."""
    return not (module.is_in("lib/") and module.imports_any("api", "dev")) and not (
        module.is_in("api/") and module.imports_any("dev")
    )


def only_one_folder_knows_the_web_framework(module: Module) -> bool:
    """In the package FastAPI and Starlette stay in `fastapi`, but for the client of its pytest plugin."""
    allowed = ("lib/onetrip/fastapi/", "lib/onetrip/testing/", "api/", "dev/start_page.py", "dev/starter/")
    return module.is_in(*allowed) or not module.imports_any("fastapi", "starlette")


def only_one_folder_knows_aws(module: Module) -> bool:
    """Mangum and AWS's library, which is slow to load, stay in `aws`."""
    return module.is_in("lib/onetrip/aws/") or not module.imports_any("mangum", "boto3", "botocore")


def only_settings_reads_the_environment(module: Module) -> bool:
    """A variable that is not in `Settings` cannot be checked, documented or hidden."""
    reads = module.reaches_for & {"environ", "environb", "getenv", "getenvb"}
    reads |= {*module.imports_any("dotenv", "pydantic_settings")}
    # The second is read ahead of the settings, which check what it found; the third the platform's marks.
    readers = ("settings/", "connection/early_url.py", "platform.py")
    return module.is_in(*(PACKAGE + reader for reader in readers)) or not reads


def only_the_pool_creates_engines(module: Module) -> bool:
    """Engines are created in one place."""
    makers = {"create_engine", "create_async_engine", "engine_from_config", "async_engine_from_config"}
    allowed = ("lib/onetrip/pool/", "lib/onetrip/__init__.py")
    return module.is_in(*allowed) or not module.reaches_for & makers


def the_example_can_be_deleted(module: Module) -> bool:
    """Nothing that stays depends on the example."""
    # The list of the application's own settings is replaced with the example.
    goes = module.is_in("lib/example/", "lib/migrations/") or module.path == "lib/settings.py"
    stays = module.is_in("lib/") and not goes
    return not (stays and module.imports_any("lib.example"))


def only_the_operator_calls_the_doctor(module: Module) -> bool:
    """No request pays for the doctor, and no deployed package holds it."""
    return module.is_in("lib/onetrip/doctor/") or not module.imports_any("lib.onetrip.doctor")


def a_module_is_named_after_what_it_owns(module: Module) -> bool:
    """A drawer for everything says nothing."""
    drawers = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}
    return not drawers & {*module.path.removesuffix(".py").split("/")}


def no_module_hides_vercels_entrypoint(module: Module) -> bool:
    """Vercel prefers these names to `api/index.py`."""
    return not (module.is_in("api/") and module.path.endswith(("/app.py", "/main.py", "/server.py")))


def a_file_is_read_in_one_go(module: Module) -> bool:
    """A longer file has two owners."""
    return len(module.source.splitlines()) <= LONGEST_FILE


def a_function_is_read_at_a_glance(module: Module) -> bool:
    """A longer function does two things."""
    functions = [node for node in module.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return all((node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION for node in functions)


# Each rule, with a file that breaks it in each way that can be thought of.
OFFENDERS: dict[Rule, list[tuple[str, str]]] = {
    the_package_knows_no_application: [
        ("lib/onetrip/retries.py", "import api.index"),
        ("lib/onetrip/retries.py", "from lib.models import Base"),
        ("lib/onetrip/retries.py", "from lib.onetrip.errors import Kind"),
        ("lib/onetrip/pool/database.py", "from ...revisions import REVISIONS"),
        ("lib/onetrip/health/probe.py", "def ask():\n    from dev import server"),
    ],
    lib_knows_nothing_of_api: [
        ("lib/models.py", "import api.index"),
        ("lib/onetrip/retries.py", "from api import application"),
        ("lib/example/seed.py", "def main():\n    from api.application import create_app"),
        ("api/index.py", "from dev.server import main"),
    ],
    only_one_folder_knows_the_web_framework: [
        ("lib/onetrip/health/probe.py", "from fastapi import Depends"),
        ("lib/onetrip/aws/adapter.py", "import starlette.types as types"),
        ("lib/example/users.py", "if TYPE_CHECKING:\n    from fastapi import Request"),
    ],
    only_one_folder_knows_aws: [
        ("lib/onetrip/settings/settings.py", "def secret():\n    import boto3"),
        ("api/aws_lambda.py", "from botocore.config import Config"),
        ("api/aws_lambda.py", "from mangum import Mangum"),
    ],
    only_settings_reads_the_environment: [
        ("lib/onetrip/pool/database.py", "import os\nurl = os.environ['DATABASE_URL']"),
        ("api/index.py", "import os as system\nurl = system.getenv('DATABASE_URL')"),
        ("api/index.py", "from os import environ as variables"),
        ("lib/example/seed.py", "from dotenv import load_dotenv"),
        ("lib/onetrip/retries.py", "from pydantic_settings import BaseSettings"),
    ],
    only_the_pool_creates_engines: [
        ("lib/onetrip/session/session.py", "from sqlalchemy import create_engine as make"),
        ("lib/onetrip/health/probe.py", "import sqlalchemy\nengine = sqlalchemy.create_engine(url)"),
        ("api/application.py", "from sqlalchemy.ext.asyncio import create_async_engine"),
        ("lib/migrations/env.py", "from sqlalchemy import engine_from_config"),
    ],
    the_example_can_be_deleted: [
        ("lib/models.py", "from lib.example.models import User"),
        ("lib/onetrip/retries.py", "from lib import example"),
        ("lib/models.py", "from . import example"),
        ("lib/models.py", "from .example import models"),
    ],
    only_the_operator_calls_the_doctor: [
        ("lib/onetrip/health/probe.py", "from ..doctor import login"),
        ("api/index.py", "def report():\n    from lib.onetrip import doctor"),
    ],
    a_module_is_named_after_what_it_owns: [
        ("lib/utils.py", ""),
        ("lib/common/retry.py", ""),
        ("api/routes/base.py", ""),
    ],
    no_module_hides_vercels_entrypoint: [
        ("api/app.py", ""),
        ("api/main.py", ""),
        ("api/routes/server.py", ""),
    ],
    a_file_is_read_in_one_go: [("lib/models.py", "pass\n" * (LONGEST_FILE + 1))],
    a_function_is_read_at_a_glance: [("lib/models.py", "def f():\n" + "    f()\n" * LONGEST_FUNCTION)],
}
# Files that come close to breaking a rule and do not.
INNOCENTS = [
    ("dev/server.py", "import os\nimport apiary\nuser = os.geteuid()"),
    ("lib/onetrip/platform.py", "def detect(environ):\n    return environ.get('VERCEL')"),
    ("lib/onetrip/settings/environment.py", "import os, dotenv\nu = os.environ['U']"),
    ("lib/onetrip/pool/engines.py", "from sqlalchemy import create_engine\nengine = create_engine(url)"),
    ("lib/onetrip/aws/secrets.py", "def client():\n    import boto3"),
    (
        "lib/onetrip/fastapi/installation.py",
        "from fastapi import FastAPI\nfrom ..pool.database import Database",
    ),
    ("lib/example/seed.py", "from lib.example.models import User\nfrom .models import Task"),
    ("lib/migrations/env.py", "from lib.example import models"),
    ("lib/examples.py", "from lib.exampled import nothing"),
    ("api/routes/tasks.py", "from lib.example import tasks\nfrom fastapi import APIRouter"),
    ("api/application.py", "environment = 'os.environ'\n" + "pass\n" * (LONGEST_FILE - 1)),
    ("lib/models.py", "def f():\n" + "    f()\n" * (LONGEST_FUNCTION - 1)),
]


@cache
def project_files() -> list[Module]:
    """Every Python file that is served, deployed or run on one's own machine."""
    paths = sorted(path for part in ("api", "lib", "dev") for path in (PROJECT / part).rglob("*.py"))
    return [Module(path.relative_to(PROJECT).as_posix(), path.read_text()) for path in paths]


def folders_of_the_package(modules: list[Module]) -> dict[str, set[str]]:
    """The folders (and single files) of the package, each with those that it imports when it runs."""
    found: dict[str, set[str]] = {}
    parts = {module.path.removeprefix(PACKAGE).split("/")[0].removesuffix(".py") for module in modules}
    for module in modules:
        own = module.path.removeprefix(PACKAGE).split("/")[0].removesuffix(".py")
        names = {name.split(".")[2] for name in module.imports_when_run if name.startswith("lib.onetrip.")}
        found.setdefault(own, set()).update((names & parts) - {own})
    return found


@pytest.mark.parametrize("rule", OFFENDERS, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    """No file of the project breaks the rule."""
    offenders = [module.path for module in project_files() if not rule(module)]
    assert not offenders, f"{rule.__doc__} Not so in {', '.join(offenders)}"


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [(rule, path, source) for rule, offenders in OFFENDERS.items() for path, source in offenders],
)
def test_an_offender_is_caught(rule: Rule, path: str, source: str) -> None:
    """Each rule can fail, so that its silence means something."""
    assert not rule(Module(path, source))


@pytest.mark.parametrize(("path", "source"), INNOCENTS)
def test_an_innocent_file_is_left_alone(path: str, source: str) -> None:
    """No rule forbids more than it says."""
    assert [rule.__name__ for rule in OFFENDERS if not rule(Module(path, source))] == []


def test_the_packages_folders_form_no_circle() -> None:
    """The package is read in one direction: a folder imports only folders below it."""
    modules = [module for module in project_files() if module.is_in(PACKAGE) and module.path.count("/") > 1]
    folders = folders_of_the_package([m for m in modules if m.path != f"{PACKAGE}__init__.py"])
    assert folders["fastapi"] >= {"pool", "session"}
    TopologicalSorter(folders).prepare()


def test_a_circle_of_folders_is_caught() -> None:
    """Two folders that import each other are an error, wherever in a function the import stands."""
    files = {
        "lib/onetrip/pool/database.py": "from ..session import session",
        "lib/onetrip/session/session.py": "def f():\n    from ..pool.database import Database",
    }
    with pytest.raises(CycleError):
        TopologicalSorter(folders_of_the_package([Module(*file) for file in files.items()])).prepare()


def test_no_folder_holds_too_much() -> None:
    """A folder with more files is about more than one noun."""
    counts = Counter(str(PurePosixPath(module.path).parent) for module in project_files())
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES_IN_A_FOLDER} == {}


def test_the_files_that_are_named_exist() -> None:
    """The rules are about this project: the files they make exceptions for are where they say."""
    paths = {module.path for module in project_files()}
    assert paths >= {
        "api/index.py",
        "api/aws_lambda.py",
        "lib/onetrip/__init__.py",
        "lib/onetrip/settings/settings.py",
        "lib/onetrip/connection/early_url.py",
        "lib/onetrip/pool/database.py",
        "lib/onetrip/aws/secrets.py",
    }
