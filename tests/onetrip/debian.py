"""Programs of Debian's packages, unpacked with their libraries into `.tools`; the system stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def is_there() -> bool:
    """Return True if this machine has Debian's package tools."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg"))


def unpack(package: str, folder: Path) -> None:
    """Unpack `package`, and what it needs beyond what is installed, into `folder`."""
    state = folder.with_name(f"apt-{package}")
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    apt = [
        "apt-get",
        "--quiet=2",
        *("-o", f"Dir::State::Lists={state / 'lists'}"),
        *("-o", f"Dir::Cache={state / 'cache'}"),
        *("-o", "Debug::NoLocking=1"),
        *("-o", "APT::Sandbox::User="),
    ]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run(
        [*apt, "--yes", "--download-only", "--no-install-recommends", "install", package], check=True
    )
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for archive in (state / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(archive), str(unfinished)], check=True)
    shutil.rmtree(state)
    unfinished.rename(folder)


def environment(unpacked: Path) -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    libraries = sorted({str(path.parent) for path in unpacked.rglob("*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
