"""Programs of Debian's packages, unpacked with their libraries into `.tools`; the system stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOADER = "loader"


def is_there() -> bool:
    """Return True if this machine has Debian's package tools."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg"))


def unpack(package: str, folder: Path) -> None:
    """Unpack `package`, and what it needs beyond what is installed, into `folder`."""
    with _apt(folder) as (apt, state):
        _unpacked(package, apt, state).rename(folder)


def unpack_newest(package: str, program: str, folder: Path) -> None:
    """Put `program` of Debian's newest release, its loader and all libraries that it needs into `folder`."""
    with _apt(folder) as (apt, state):
        source = state / "newest.list"
        source.write_text(f"deb {_archive()} unstable main\n")
        newest = [
            *("-o", f"Dir::Etc::SourceList={source}"),
            *("-o", "Dir::Etc::SourceParts=/dev/null"),
            # Nothing counts as installed: this system's own libraries are too old for it.
            *("-o", "Dir::State::Status=/dev/null"),
        ]
        unpacked = _unpacked(package, [*apt, *newest], state)
        alone = state / "alone"
        alone.mkdir()
        loader = next(unpacked.rglob("ld-linux*.so*"))
        for file in (unpacked / program, *_libraries(unpacked / program, loader)):
            shutil.copy(file, alone)
        shutil.copy(loader, alone / LOADER)
        alone.rename(folder)


def with_its_loader(program: Path) -> list[str]:
    """The command for a program that `unpack_newest` put there."""
    folder = program.parent
    return [str(folder / LOADER), "--library-path", str(folder), str(program)]


def _archive() -> str:
    """Return the address of the archive that this machine takes its packages from."""
    targets = ("Created-By: Packages", "Component: main")
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *targets]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]


def _libraries(program: Path, loader: Path) -> list[Path]:
    folders = ":".join(sorted({str(path.parent) for path in loader.parent.rglob("*.so*")}))
    command = [str(loader), "--library-path", folders, "--list", str(program)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [Path(line.split()[2]) for line in listed if "=>" in line]


@contextmanager
def _apt(folder: Path) -> Iterator[tuple[list[str], Path]]:
    """The command of apt with a state of its own, in a folder beside `folder` that is removed afterwards."""
    state = folder.with_name(f"apt-{folder.name}")
    # Of one that was interrupted.
    shutil.rmtree(state, ignore_errors=True)
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    yield (
        [
            "apt-get",
            "--quiet=2",
            *("-o", f"Dir::State::Lists={state / 'lists'}"),
            *("-o", f"Dir::Cache={state / 'cache'}"),
            *("-o", "Debug::NoLocking=1"),
            *("-o", "APT::Sandbox::User="),
        ],
        state,
    )
    shutil.rmtree(state)


def _unpacked(package: str, apt: list[str], state: Path) -> Path:
    unpacked = state / "unpacked"
    subprocess.run([*apt, "update"], check=True)
    subprocess.run(
        [*apt, "--yes", "--download-only", "--no-install-recommends", "install", package], check=True
    )
    for archive in (state / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(archive), str(unpacked)], check=True)
    return unpacked


def environment(unpacked: Path) -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    libraries = sorted({str(path.parent) for path in unpacked.rglob("*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
