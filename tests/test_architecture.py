"""Who may know whom: each rule in a few lines, held by every file, and shown to catch its offender."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
LONGEST_FILE = 220


@dataclass(frozen=True)
class Module:
    """A file of the project's, read and parsed but never imported."""

    path: str
    source: str

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.source, self.path)))

    @cached_property
    def imports(self) -> set[str]:
        """Every name that is imported, with its module's: `from lib import engine` is `lib.engine`."""
        return {name for node in self.nodes for name in self._imported_by(node)}

    @cached_property
    def reaches_for(self) -> set[str]:
        """The last part of every name imported, or reached through a dot: `environ` of `os.environ`."""
        attributes = {node.attr for node in self.nodes if isinstance(node, ast.Attribute)}
        return attributes | {name.rpartition(".")[2] for name in self.imports}

    def imports_any(self, *packages: str) -> list[str]:
        return sorted(name for name in self.imports if any(f"{name}.".startswith(f"{p}.") for p in packages))

    def _imported_by(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = self.path.split("/")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


Rule = Callable[[Module], bool]


def lib_knows_nothing_of_api(module: Module) -> bool:
    """The HTTP side knows the database side, never the other way round."""
    return not (module.path.startswith("lib/") and module.imports_any("api"))


def only_api_knows_the_web(module: Module) -> bool:
    """FastAPI, Starlette and Mangum stay in `api`."""
    return module.path.startswith("api/") or not module.imports_any("fastapi", "starlette", "mangum")


def only_settings_reads_the_environment(module: Module) -> bool:
    """A variable that is not in `Settings` cannot be checked, documented or hidden."""
    reads = module.reaches_for & {"environ", "environb", "getenv", "getenvb"}
    reads |= {*module.imports_any("dotenv", "pydantic_settings")}
    # The second looks ahead of the settings, which check what it saw.
    return module.path in {"lib/settings.py", "lib/likely_url.py"} or not reads


def only_engine_creates_engines(module: Module) -> bool:
    """Whoever looks for the pool finds it in one place."""
    makers = {"create_engine", "create_async_engine", "engine_from_config", "async_engine_from_config"}
    return module.path == "lib/engine.py" or not module.reaches_for & makers


def only_secrets_touches_aws(module: Module) -> bool:
    """AWS's library is slow to load, so one module loads it, and only when asked."""
    return module.path == "lib/secrets.py" or not module.imports_any("boto3", "botocore")


def the_example_can_be_deleted(module: Module) -> bool:
    """Nothing of the library's own depends on the example."""
    own = module.path.startswith("lib/") and not module.path.startswith(("lib/example/", "lib/migrations/"))
    return not (own and module.imports_any("lib.example"))


def only_the_operator_calls_the_doctor(module: Module) -> bool:
    """No request pays for the doctor, and no package holds it."""
    return module.path.startswith("lib/doctor/") or not module.imports_any("lib.doctor")


def a_module_is_named_after_what_it_owns(module: Module) -> bool:
    """A drawer for everything is found by nobody."""
    drawers = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}
    return not drawers & {*module.path.removesuffix(".py").split("/")}


def no_module_hides_vercels_entrypoint(module: Module) -> bool:
    """Vercel prefers these names to `api/index.py`."""
    return not (
        module.path.startswith("api/") and module.path.endswith(("/app.py", "/main.py", "/server.py"))
    )


def a_file_is_read_in_one_go(module: Module) -> bool:
    """What grows longer has two owners."""
    return len(module.source.splitlines()) <= LONGEST_FILE


# Each rule, with a file that breaks it in each way that can be thought of.
OFFENDERS: dict[Rule, list[tuple[str, str]]] = {
    lib_knows_nothing_of_api: [
        ("lib/engine.py", "import api.index"),
        ("lib/engine.py", "from api import application"),
        ("lib/example/seed.py", "def main():\n    from api.application import create_app"),
    ],
    only_api_knows_the_web: [
        ("lib/health.py", "from fastapi import Depends"),
        ("lib/health.py", "import starlette.types as types"),
        ("lib/health.py", "if TYPE_CHECKING:\n    from mangum import Mangum"),
    ],
    only_settings_reads_the_environment: [
        ("lib/engine.py", "import os\nurl = os.environ['DATABASE_URL']"),
        ("api/index.py", "import os as system\nurl = system.getenv('DATABASE_URL')"),
        ("api/index.py", "from os import environ as variables"),
        ("lib/local_postgres.py", "from dotenv import load_dotenv"),
        ("lib/variables.py", "from pydantic_settings import BaseSettings"),
    ],
    only_engine_creates_engines: [
        ("lib/session.py", "from sqlalchemy import create_engine as make"),
        ("lib/health.py", "import sqlalchemy\nengine = sqlalchemy.create_engine(url)"),
        ("api/application.py", "from sqlalchemy.ext.asyncio import create_async_engine"),
        ("lib/migrations/env.py", "from sqlalchemy import engine_from_config"),
    ],
    only_secrets_touches_aws: [
        ("lib/settings.py", "def secret():\n    import boto3"),
        ("api/aws_lambda.py", "from botocore.config import Config"),
    ],
    the_example_can_be_deleted: [
        ("lib/engine.py", "from lib.example.models import Base"),
        ("lib/health.py", "from lib import example"),
        ("lib/health.py", "from . import example"),
        ("lib/health.py", "from .example import models"),
    ],
    only_the_operator_calls_the_doctor: [
        ("lib/health.py", "from lib.doctor import login"),
        ("api/routes/health.py", "def report():\n    from lib import doctor"),
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
    a_file_is_read_in_one_go: [("lib/engine.py", "pass\n" * (LONGEST_FILE + 1))],
}
# What comes close to breaking a rule and doesn't.
INNOCENTS = [
    ("lib/local_postgres.py", "import os\nimport apiary\nuser = os.geteuid()"),
    ("lib/platform.py", "def detect(environ):\n    return environ.get('VERCEL')"),
    ("lib/settings.py", "import os\nfrom dotenv import dotenv_values\nurl = os.environ['DATABASE_URL']"),
    ("lib/engine.py", "from sqlalchemy import create_engine\nengine = create_engine(url)"),
    ("lib/secrets.py", "def client():\n    import boto3"),
    ("lib/example/seed.py", "from lib.example.models import User\nfrom .models import Task"),
    ("lib/migrations/env.py", "from lib.example.models import Base"),
    ("lib/examples.py", "from lib.exampled import nothing"),
    ("api/routes/tasks.py", "from lib.example import tasks\nfrom fastapi import APIRouter"),
    ("api/dev_server.py", "environment = 'os.environ'\n" + "pass\n" * (LONGEST_FILE - 1)),
]


def project_files() -> list[Module]:
    """Every Python file that is served or deployed."""
    paths = sorted(path for room in ("api", "lib") for path in (PROJECT / room).rglob("*.py"))
    return [Module(path.relative_to(PROJECT).as_posix(), path.read_text()) for path in paths]


@pytest.mark.parametrize("rule", OFFENDERS, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    """No file of `api` or `lib` breaks the rule."""
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


def test_the_files_that_are_named_exist() -> None:
    """The rules speak of this project: the files they make exceptions for are where they say."""
    paths = {module.path for module in project_files()}
    assert paths >= {
        "api/index.py",
        "api/aws_lambda.py",
        "lib/settings.py",
        "lib/likely_url.py",
        "lib/engine.py",
    }
