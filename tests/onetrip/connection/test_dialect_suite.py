"""Our dialects pass what SQLAlchemy asks of a dialect, as its own do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.onetrip.dialect.outcomes import OURS, STOCK, Place, Suite
from tests.onetrip.environment import PROJECT
from tests.onetrip.servers import Servers

FOLDER = "tests/onetrip/dialect"
ARGUMENTS = ("-c", f"{FOLDER}/suite.ini", "--rootdir", FOLDER, f"{FOLDER}/suite.py")


@pytest.mark.slow
@pytest.mark.parametrize("way", STOCK)
def test_sqlalchemys_own_suite_ends_as_with_its_own_dialect(
    servers: Servers, tmp_path: Path, way: str
) -> None:
    """Over 1,800 tests of what a dialect must do pass or fail alike with ours and with the stock one."""
    port = servers.postgres.port
    assert port is not None
    place = Place(port, servers.administer)
    stock, ours = Suite(ARGUMENTS, PROJECT).outcomes({STOCK[way]: place, OURS[way]: place}, tmp_path)
    assert ours == stock
    assert list(ours.values()).count("passed") > 1800
