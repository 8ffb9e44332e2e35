"""The programs that packaging needs: installed into `.tools` as pinned, or found on this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parent.parent
TOOLS = PROJECT / ".tools"
PINS = Path(__file__).parent / "tools"
# The Python of both platforms. Bytecode is valid for one minor version, so it is needed here too.
PYTHON_VERSION = "3.13"
OLDEST_NODE = 20
# As pip does: trust whom this machine trusts, so that uv too works behind a company's proxy.
DEFAULTS = {"UV_SYSTEM_CERTS": "1"}
# Folders of version managers that are not on PATH.
_INSTALLATIONS = (
    ".local/share/uv/python/cpython-{version}*",
    ".local/share/mise/installs/python/{version}*",
    ".asdf/installs/python/{version}*",
)


class ToolError(Exception):
    """A program is missing, or said that it failed; the message says what to do."""


def run(
    *command: str | Path,
    folder: Path = PROJECT,
    variables: Mapping[str, str] | None = None,
    only: Mapping[str, str] | None = None,
) -> str:
    """Return all that `command` printed; raise `ToolError` with it if it failed.

    `variables` are added to this process's environment, `only` are all that there are.
    """
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=folder,
            env=only or {**DEFAULTS, **os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except OSError as error:
        raise ToolError(
            f"{command[0]} cannot be run: {error.strerror}. Install it, and try again."
        ) from error
    if done.returncode != 0:
        raise ToolError(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout


@cache
def python() -> Path:
    """A Python of the version that both platforms run."""
    found = next(filter(_is_wanted, _candidates()), None)
    if found is None:
        raise ToolError(
            f"Python {PYTHON_VERSION} is needed: the platforms run it, and bytecode fits one version. "
            f"Install it so that python{PYTHON_VERSION} is on PATH, or with pyenv, "
            f"or: {shlex.quote(str(uv()))} python install {PYTHON_VERSION}"
        )
    return found


@cache
def uv() -> Path:
    """The package installer that knows other platforms' wheels."""
    folder = TOOLS / "uv"
    if not _is_installed(folder, PINS / "uv.txt"):
        _say("Installing uv into .tools (seconds)")
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", folder)
        run(*pip, "--requirement", PINS / "uv.txt")
        _note_installed(folder, PINS / "uv.txt")
    return folder / "bin" / "uv"


def uv_install(*arguments: str | Path) -> None:
    """Install packages with uv, from its cache if all are there: a second time needs no network."""
    command = (uv(), "pip", "install", "--quiet", *arguments)
    try:
        run(*command, variables={"UV_OFFLINE": "1"})
    except ToolError:
        run(*command)


@cache
def node_tool(name: str) -> Path:
    """A command line that comes from npm: `osls` or `vercel`."""
    folder = TOOLS / "node"
    if not _is_installed(folder, PINS / "package-lock.json"):
        npm = _npm()
        _say("Installing the command lines of Vercel and Serverless into .tools (a minute)")
        folder.mkdir(parents=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(PINS / file, folder)
        # None of them needs its install scripts, so none are run.
        run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
        _note_installed(folder, PINS / "package-lock.json")
    return folder / "node_modules" / ".bin" / name


@cache
def python_packages(name: str, *options: str) -> Path:
    """A folder with what `tools/<name>.txt` pins, installed for the platforms' Python."""
    folder, pins = TOOLS / name, PINS / f"{name}.txt"
    if not _is_installed(folder, pins):
        _say(f"Installing {name} into .tools (seconds)")
        uv_install("--python", python(), "--target", folder, *options, "--requirement", pins)
        _note_installed(folder, pins)
    return folder


def search_path() -> str:
    """A PATH on which the platforms' Python, uv and Node come first."""
    node = shutil.which("node") or ""
    first = [python().parent, uv().parent, Path(node).parent]
    return os.pathsep.join([*map(str, first), os.environ.get("PATH", os.defpath)])


def _candidates() -> Iterator[Path]:
    name = f"python{PYTHON_VERSION}"
    for folder in os.get_exec_path():
        yield Path(folder) / name
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{PYTHON_VERSION}*/bin/{name}"))
    for pattern in _INSTALLATIONS:
        yield from sorted(Path.home().glob(f"{pattern.format(version=PYTHON_VERSION)}/bin/{name}"))


def _is_wanted(candidate: Path) -> bool:
    """Return True if it exists and runs: a version manager's shim may only print an error."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return run(candidate, "-c", ask).strip() == PYTHON_VERSION
    except ToolError:
        return False


def _npm() -> Path:
    npm = shutil.which("npm")
    try:
        version = run("node", "--version").strip().removeprefix("v")
    except ToolError:
        version = ""
    if npm is None or int(version.partition(".")[0] or 0) < OLDEST_NODE:
        raise ToolError(
            f"Node {OLDEST_NODE} or later with npm is needed: the platforms' command lines run on it "
            f"(found: {version or 'none'}). Install it, and try again."
        )
    return Path(npm)


def _is_installed(folder: Path, pins: Path) -> bool:
    """Return True if `folder` holds the versions in `pins`; otherwise remove it."""
    noted = folder / ".installed"
    if noted.exists() and noted.read_bytes() == pins.read_bytes():
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _note_installed(folder: Path, pins: Path) -> None:
    shutil.copy(pins, folder / ".installed")


def _say(line: str) -> None:
    print(line, flush=True)
