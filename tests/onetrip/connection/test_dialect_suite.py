"""Our dialects pass what SQLAlchemy asks of a dialect, as its own do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree as ET

import pytest

from lib.onetrip.settings.settings import environment_with
from tests.onetrip.environment import PROJECT
from tests.onetrip.servers import Servers

STOCK = {"sync": "psycopg", "async": "psycopg_async"}
OURS = {"sync": "onetrip", "async": "onetrip_async"}
SUITE = "tests/onetrip/dialect"
COMMAND = (sys.executable, "-m", "pytest", "-c", f"{SUITE}/suite.ini", "--rootdir", SUITE)


def _started(servers: Servers, driver: str, report: Path) -> subprocess.Popen[bytes]:
    """The suite, run with `driver` on a database of its own in a process of its own."""
    name = f"suite_{uuid4().hex}"
    servers.administer(f"CREATE DATABASE {name}")
    for schema in ("test_schema", "test_schema_2"):
        servers.administer(f"CREATE SCHEMA {schema}", name)
    url = f"postgresql+{driver}://postgres@127.0.0.1:{servers.postgres.port}/{name}"
    return subprocess.Popen(
        [*COMMAND, "tests/onetrip/dialect/suite.py", "-p", "no:xdist", "--dburi", url, "--junitxml", report],
        cwd=PROJECT,
        env=environment_with(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _outcomes(report: Path) -> dict[str, str]:
    """Return the outcome of each test; the dialect's name is removed from its class."""
    return {
        f"{case.attrib['classname'].partition('_postgresql')[0]}.{case.attrib['name']}": next(
            (child.tag for child in case if child.tag in {"failure", "error", "skipped"}), "passed"
        )
        for case in ET.parse(report).iter("testcase")  # noqa: S314  (pytest's own)
    }


@pytest.mark.slow
@pytest.mark.parametrize("way", STOCK)
def test_sqlalchemys_own_suite_ends_as_with_its_own_dialect(
    servers: Servers, tmp_path: Path, way: str
) -> None:
    """Over 1,800 tests of what a dialect must do pass or fail alike with ours and with the stock one."""
    reports = {driver: tmp_path / f"{driver}.xml" for driver in (STOCK[way], OURS[way])}
    for process in [_started(servers, driver, report) for driver, report in reports.items()]:
        process.wait()
    stock, ours = (_outcomes(report) for report in reports.values())
    assert ours == stock
    assert list(ours.values()).count("passed") > 1800
