"""SQLAlchemy's own tests, with its dialect and with ours: `make sqlalchemy-suite`.

They come with SQLAlchemy's source distribution, of the version that is installed. A test that ends otherwise
with ours must be listed in differences.toml with its reason. `ARGS="async test/engine"` runs a part: the way
(sync or async; without one both), and pytest's arguments, from that distribution's folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

import psycopg

from lib.onetrip.testing.databases import free_port
from lib.onetrip.testing.postgres import LocalPostgres
from lib.onetrip.testing.postgres import running as postgres_running
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.dialect.outcomes import OURS, STOCK, Place, Suite
from tests.onetrip.environment import PROJECT
from tests.onetrip.servers import POSTGRES_SETTINGS

SETTINGS = {**POSTGRES_SETTINGS, "max_prepared_transactions": "10"}
LISTED = Path(__file__).with_name("differences.toml")
KEPT = PROJECT / "build" / "sqlalchemy-suite"
VERSION = version("SQLAlchemy")
DISTRIBUTION = PROJECT / ".tools" / f"sqlalchemy-{VERSION}"
# Times, typing's own checkers and other databases' dialects are no matter of ours. Neither are
# shards, SQLite's files, of which both runs would write the same.
LEFT_OUT = (
    *("perf", "aaa_profiling", "typing", "ext/test_horizontal_shard.py"),
    *(f"dialect/{name}" for name in ("mssql", "mysql", "oracle")),
)
PARTS = {"sync": ("test",), "async": ("test/dialect", "test/engine", "test/base", "test/ext/asyncio")}
PLUGIN = (
    "-o",
    "addopts=",
    "-q",
    "--tb=native",
    "-p",
    "no:cacheprovider",
    "-p",
    "tests.onetrip.dialect.dialects",
)


def install() -> None:
    """Download the source distribution and unpack it into `.tools`."""
    if DISTRIBUTION.exists():
        return
    print(f"Fetching SQLAlchemy {VERSION} with its tests from the network into .tools (a minute)", flush=True)
    DISTRIBUTION.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DISTRIBUTION.parent) as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        source = ["--no-binary", "SQLAlchemy", f"SQLAlchemy=={VERSION}"]
        subprocess.run([*download, *source], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (Path(folder) / DISTRIBUTION.name).rename(DISTRIBUTION)


def compared(way: str, stock: dict[str, str], ours: dict[str, str]) -> list[str]:
    """The differences that are not listed, and the listed that are none; print the numbers."""
    differing = {name for name in stock.keys() | ours.keys() if stock.get(name) != ours.get(name)}
    listed = tomllib.loads(LISTED.read_text())["difference"]
    wrong, explained = [], Counter[str]()
    for entry in listed:
        run = {name for name in stock.keys() | ours.keys() if _is_in(name, entry)}
        if run and not run & differing and way in entry.get("ways", STOCK):
            wrong.append(f"{way}: listed, but no difference: {', '.join(entry['tests'])}")
        explained[entry["reason"]] += len(run & differing)
        differing -= run
    for name, ended in ((STOCK[way], stock), (OURS[way], ours)):
        print(f"{name}: {len(ended):,} tests, {dict(Counter(ended.values()))}")
    for reason, number in explained.items():
        print(f"  {number} differ: {reason}" if number else "", end="\n" if number else "")
    return [
        *wrong,
        *(f"{way}: {name}: {stock.get(name)}, ours {ours.get(name)}" for name in sorted(differing)),
    ]


def _is_in(name: str, entry: dict[str, list[str]]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in entry["tests"])


def main(arguments: list[str]) -> int:
    """Run the tests both ways, and say what differs without a reason."""
    ways = [arguments.pop(0)] if arguments and arguments[0] in PARTS else list(PARTS)
    install()
    wrong = []
    # Two servers: what a prepared transaction is called holds for the whole of one.
    with _place() as stock, _place() as ours:
        for way in ways:
            reports = KEPT / way
            shutil.rmtree(reports, ignore_errors=True)
            reports.mkdir(parents=True)
            ignored = (f"--ignore=test/{name}" for name in LEFT_OUT)
            suite = Suite((*PLUGIN, *ignored, *(arguments or PARTS[way])), DISTRIBUTION)
            wrong += compared(way, *suite.outcomes({STOCK[way]: stock, OURS[way]: ours}, reports))
    print("\n".join(wrong) or "No difference that is not listed with its reason.")
    return bool(wrong)


@contextmanager
def _place() -> Iterator[Place]:
    """A server of its own, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sqlalchemy-suite-"))
    # It may run as another user than root, who must be able to get there.
    folder.chmod(0o755)
    port = free_port()

    def administer(statement: str, database: str = "postgres") -> None:
        url = DatabaseURL(user="postgres", host="127.0.0.1", port=port, database=database)
        with psycopg.connect(**url.connect_arguments(), autocommit=True) as connection:  # type: ignore[arg-type]
            connection.execute(statement.encode())

    try:
        with postgres_running(LocalPostgres(folder / "postgres", port=port, settings=SETTINGS)):
            yield Place(port, administer)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
