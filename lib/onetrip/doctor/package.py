"""Checks of the packages that `make package` built: current, complete, without files to keep private."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .context import Case
from .result import Finding, ok, wrong

MIB = 2**20
# Lambda's limits unpacked and zipped; Vercel's packages are held to the first.
_LIMIT, _ZIP_LIMIT = 250 * MIB, 50 * MIB
_OURS = re.compile(r"(api|lib)/.*\.py")
_FOREIGN = re.compile(r"(.*/)?\.env(\..*)?|(tests|docs|deploy)/.*")
_PACKAGE_AGAIN = "make package"
_DISTRIBUTION = re.compile(r"(?:_vendor/)?([^/]+)-([^-/]+)\.dist-info/METADATA")


@dataclass(frozen=True)
class _Built:
    """A package: the sizes of its files by path, and the contents of the project's own files."""

    name: str
    sizes: dict[str, int]
    ours: dict[str, bytes]
    zipped: int = 0

    @property
    def size(self) -> int:
        return sum(self.sizes.values())


def check_package(case: Case) -> Finding:
    """Check that the packages in build/ match the sources, and are complete and small enough."""
    packages = [*_lambda(case.root / "build" / "lambda"), *_vercel(case.root / "build" / "vercel")]
    if not packages:
        return ok("none is built (make package builds them)")
    for package in packages:
        for problem in (_unfit(package), _stale(package, case.root)):
            if problem:
                return wrong(f"{package.name}: {problem}", _PACKAGE_AGAIN)
    return ok(", ".join(f"{package.name} {package.size / MIB:.1f} MiB" for package in packages))


def _lambda(folder: Path) -> Iterator[_Built]:
    for path in sorted(folder.glob("*.zip")):
        try:
            with zipfile.ZipFile(path) as archive:
                sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
                ours = {name: archive.read(name) for name in filter(_OURS.fullmatch, sizes)}
        except (OSError, zipfile.BadZipFile):
            # Half written, or no zip: it does not hold the sources.
            sizes, ours = {}, {}
        yield _Built(path.name, sizes, ours, path.stat().st_size)


def _vercel(folder: Path) -> Iterator[_Built]:
    for function in sorted((folder / ".vercel" / "output" / "functions").glob("*.func")):
        files = {
            path.relative_to(function).as_posix(): path for path in function.rglob("*") if path.is_file()
        }
        sizes = {name: path.stat().st_size for name, path in files.items()}
        ours = {name: files[name].read_bytes() for name in filter(_OURS.fullmatch, files)}
        yield _Built(f"Vercel's {function.name}", sizes, ours)


def _unfit(package: _Built) -> str | None:
    """Return the reason why the package must not be deployed, if there is one."""
    if not package.ours:
        return "holds none of api/ and lib/"
    if foreign := sorted(name for name in package.sizes if _FOREIGN.fullmatch(name)):
        return f"holds {foreign[0]}, which must not be deployed"
    if not any(name.endswith(".pyc") for name in package.sizes):
        return "holds no bytecode, and each cold start would compile everything"
    if package.size > _LIMIT:
        return f"is {package.size / MIB:.0f} MiB, more than the {_LIMIT // MIB} that the platform takes"
    if package.zipped > _ZIP_LIMIT:
        return (
            f"is {package.zipped / MIB:.0f} MiB zipped, more than the {_ZIP_LIMIT // MIB} that Lambda takes"
        )
    return None


def _stale(package: _Built, root: Path) -> str | None:
    """Return the first difference from the current sources: a file, or the version of a dependency."""
    for name, packaged in package.ours.items():
        source = root / name
        if not source.is_file():
            return f"stale: {name} is not there any more"
        if source.read_bytes() != packaged:
            return f"stale: {name} has changed since"
    found = {_canonical(match[1]): match[2] for match in map(_DISTRIBUTION.fullmatch, package.sizes) if match}
    for name, version in _pins(root / "requirements.txt"):
        if found.get(name) != version:
            return f"stale: {name} is {found.get(name, 'not there')}, and requirements.txt wants {version}"
    return None


def _pins(file: Path) -> list[tuple[str, str]]:
    lines = file.read_text().splitlines() if file.is_file() else []
    pins = filter(None, (re.match(r"([\w.-]+)(?:\[.*\])?==(\S+)", line) for line in lines))
    return [(_canonical(pin[1]), pin[2]) for pin in pins]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
