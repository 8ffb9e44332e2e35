"""`make package`: both platforms' packages into `build/`, with the real tools and without an account."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy import lambda_package, trial, vercel_package
from deploy.source import SourceTree
from deploy.toolbox import PROJECT, PYTHON_VERSION, ToolError, node_tool, python, uv

BUILD = PROJECT / "build"
# Lambda's name of this machine's processor.
ARCHITECTURE = "x86_64" if platform.machine() in {"x86_64", "AMD64"} else "arm64"
# The templates name a secret. Deploying needs the real one, packaging any.
EXAMPLE_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:database-url-AbCdEf"  # noqa: S105  (a name)


def main() -> int:
    """Build everything; 0, or 1 with a message that says what is missing."""
    began = time.monotonic()
    try:
        print(f"Packaging for Python {PYTHON_VERSION} into {BUILD.relative_to(PROJECT)}/", flush=True)
        made = build(BUILD, SourceTree(PROJECT))
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    for path in made:
        print(f"  {path.relative_to(PROJECT)!s:32} {_size(path) / 2**20:6.1f} MiB")
    print(f"Packaged in {time.monotonic() - began:.0f} s")
    return 0


def build(folder: Path, tree: SourceTree) -> list[Path]:
    """Both platforms' packages, in `folder`, where nothing of an earlier build stays."""
    # Missing tools are found before anything is built.
    python(), uv(), node_tool("osls")
    shutil.rmtree(folder, ignore_errors=True)
    with ThreadPoolExecutor() as pool:
        vercel = pool.submit(vercel_package.build, folder / "vercel", tree)
        zips = lambda_package.build(folder / "lambda", tree)
        for architecture in lambda_package.ARCHITECTURES:
            target = folder / "lambda" / architecture
            lambda_package.template(target, architecture, databaseSecretArn=EXAMPLE_SECRET)
        made = [*zips, vercel.result()]
    _try(made)
    return made


def _try(made: list[Path]) -> None:
    """Start what was made and ask it: a package that cannot start is none."""
    *zips, vercel = made
    for package in zips:
        name, _, architecture = package.stem.partition("-")
        if architecture == ARCHITECTURE:
            trial.try_function(package)
        else:
            trial.compare(package.with_name(f"{name}-{ARCHITECTURE}.zip"), package)
    if ARCHITECTURE == "x86_64":
        trial.try_vercel(vercel)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    sys.exit(main())
