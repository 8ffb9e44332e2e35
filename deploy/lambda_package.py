"""Lambda's packages: for each function and processor one zip, the same bytes whenever and wherever from.

A package holds what a function imports and its bytecode. Lambda's file system is read-only and its
processes are short: without bytecode each of them would compile everything that it imports.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.source import SourceTree
from deploy.toolbox import PROJECT, ToolError, node_tool, python, run, search_path, uv_install

# Lambda's names of the processors, and the oldest system that a wheel may be built for: Amazon Linux
# 2023 has glibc 2.34, so whatever needs no more than 2.28 runs.
ARCHITECTURES = {"x86_64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
# Lambda's folder of the unzipped package: bytecode and tracebacks name the files in it.
TASK_ROOT = "/var/task"
# Files in wheels that no running program reads: sources of compiled parts, tests, type stubs, scripts,
# and lists of files that are no longer true.
UNREAD = (".lock", "bin", "include", "**/tests", "sqlalchemy/testing", "*.dist-info/RECORD")
UNREAD_SUFFIXES = {".pyi", ".pyx", ".pxd", ".c", ".cpp", ".h", ".hpp"}
# The earliest time that a zip can hold: equal contents make equal bytes.
_WRITTEN_AT = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Function:
    """The parts of a function's package."""

    name: str
    sources: tuple[str, ...]
    without: tuple[str, ...]
    dependency_groups: tuple[str, ...] = ()


# Whole folders, for some modules read a file that lies beside them.
LIBRARY = ("lib/*.py", "lib/example/**/*", "lib/onetrip/**/*")
# For an operator's own machine only.
LOCAL = ("lib/onetrip/doctor/**/*", "lib/onetrip/testing/**/*", "lib/example/seed.py")
# Two packages: the public function holds no code that could change the schema.
FUNCTIONS = (
    Function(
        "api",
        ("api/*.py", "api/routes/*.py", *LIBRARY),
        (*LOCAL, "api/aws_migrate.py"),
    ),
    Function(
        "migrate",
        ("api/__init__.py", "api/aws_migrate.py", *LIBRARY, "lib/migrations/**/*"),
        (*LOCAL, "lib/onetrip/fastapi/**/*"),
        ("migrations",),
    ),
)


def build(folder: Path, tree: SourceTree) -> list[Path]:
    """Write every function's package for every processor into `folder`."""
    return [
        package(function, architecture, folder, tree)
        for function in FUNCTIONS
        for architecture in ARCHITECTURES
    ]


def package(function: Function, architecture: str, folder: Path, tree: SourceTree) -> Path:
    """Write one package into `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary) / "task"
        _install(function, architecture, stage)
        _prune(stage)
        tree.copy(stage, function.sources, function.without)
        _compile(stage)
        # The processor is part of the name: two artifacts of one name overwrite each other at upload.
        return _zip(stage, folder / f"{function.name}-{architecture}.zip")


def template(folder: Path, architecture: str, *more: str, **parameters: str) -> Path:
    """The CloudFormation template that `serverless.yml` becomes, offline and without an account."""
    given = {"architecture": architecture, **parameters}
    options = [f"--param={name}={value}" for name, value in given.items()]
    variables = {"PATH": search_path(), "SLS_TELEMETRY_DISABLED": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    said = run(node_tool("osls"), "package", "--package", folder, *more, *options, variables=variables)
    # A warning only, for the sake of Serverless Framework 3, but a misspelt key is ignored otherwise.
    if "Invalid configuration" in said:
        raise ToolError(f"serverless.yml is not valid:\n{said}")
    return folder / "cloudformation-template-update-stack.json"


def _install(function: Function, architecture: str, stage: Path) -> None:
    """Install wheels for the target, which need not be this machine."""
    platform = ("--python-platform", ARCHITECTURES[architecture], "--only-binary", ":all:")
    # As pinned and nothing else, in files of its own: a link into uv's cache would be compiled there.
    exactly = ("--no-deps", "--link-mode", "copy", "--requirement", PROJECT / "requirements.txt")
    groups = [f"--group={PROJECT / 'pyproject.toml'}:{group}" for group in function.dependency_groups]
    uv_install("--python", python(), "--target", stage, *platform, *exactly, *groups)


def _prune(stage: Path) -> None:
    for pattern in UNREAD:
        for path in list(stage.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in _files(stage):
        if path.suffix in UNREAD_SUFFIXES:
            path.unlink()


def _compile(stage: Path) -> None:
    """Compile for a file system where nothing changes: never compare bytecode with its source.

    Bytecode that notes its source's time would be void, as a zip changes times.
    """
    mode = ("--invalidation-mode", "unchecked-hash")
    run(python(), "-m", "compileall", "-q", *mode, "-s", stage, "-p", TASK_ROOT, stage)


def _zip(stage: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(_files(stage)):
            entry = zipfile.ZipInfo(file.relative_to(stage).as_posix(), _WRITTEN_AT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            # Lambda runs as another user: everyone may read, and libraries are executable.
            entry.external_attr = (0o100755 if ".so" in file.suffixes else 0o100644) << 16
            archive.writestr(entry, file.read_bytes())
    return path


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
