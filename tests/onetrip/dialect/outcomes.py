"""One of SQLAlchemy's suites, run with a dialect on a database of its own, and how each test ended."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree as ET

from lib.onetrip.settings.settings import environment_with
from tests.onetrip.environment import PROJECT

STOCK = {"sync": "psycopg", "async": "psycopg_async"}
OURS = {"sync": "onetrip", "async": "onetrip_async"}


@dataclass(frozen=True)
class Place:
    """A server on this machine for one run, by its port and what runs a statement in one of its databases."""

    port: int
    administer: Callable[..., object]


@dataclass(frozen=True)
class Suite:
    """The arguments of pytest, and the folder where they hold."""

    arguments: tuple[str, ...]
    folder: Path

    def outcomes(self, places: dict[str, Place], reports: Path) -> list[dict[str, str]]:
        """Run the suite with each of these drivers, at once; return how each test ended."""
        files = {driver: reports / f"{driver}.xml" for driver in places}
        for process in [self._started(driver, places[driver], file) for driver, file in files.items()]:
            process.wait()
        return [_read(file) for file in files.values()]

    def _started(self, driver: str, place: Place, report: Path) -> subprocess.Popen[bytes]:
        name = f"suite_{uuid4().hex}"
        place.administer(f"CREATE DATABASE {name}")
        for what in ("SCHEMA test_schema", "SCHEMA test_schema_2", "EXTENSION hstore", "EXTENSION citext"):
            place.administer(f"CREATE {what}", name)
        url = f"postgresql+{driver}://postgres@127.0.0.1:{place.port}/{name}"
        # -s: SQLAlchemy's tests would else take the folder beside them for the installed package.
        command = (sys.executable, "-s", "-m", "pytest", *self.arguments, "-p", "no:xdist")
        with report.with_suffix(".log").open("w") as log:
            return subprocess.Popen(
                [*command, "--dburi", url, "--junitxml", report],
                cwd=self.folder,
                env=environment_with(PYTHONPATH=str(PROJECT)),
                stdout=log,
                stderr=log,
            )


def _read(report: Path) -> dict[str, str]:
    """Return the outcome of each test; the dialect's name is removed from its class."""
    ended: dict[str, str] = {}
    seen: Counter[str] = Counter()
    cases = ET.parse(report).iter("testcase") if report.exists() else ()  # noqa: S314  (pytest's own)
    for case in cases:
        name = f"{case.attrib['classname'].partition('_postgresql')[0]}.{case.attrib['name']}"
        seen[name] += 1
        number = f" ({seen[name]})" if seen[name] > 1 else ""
        ended[name + number] = next(
            (child.tag for child in case if child.tag in {"failure", "error", "skipped"}), "passed"
        )
    if not ended:
        end = report.with_suffix(".log").read_text()[-3000:]
        raise RuntimeError(f"SQLAlchemy's tests did not run:\n{end}")
    return ended
