"""The built packages. `make test-platforms` builds them and runs these tests; others leave them out."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.__main__ import BUILD
from tests.onetrip.databases import ROUTES
from tests.onetrip.servers import Servers
from tests.packages.runtimes import ARCHITECTURE, Urls

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Be collected only when asked for by name: building takes as long as all other tests together."""
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in asked) else True


def unzipped(name: str, folder: Path) -> Path:
    """A Lambda package as Lambda unzips it."""
    with zipfile.ZipFile(BUILD / "lambda" / f"{name}.zip") as package:
        package.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def lambda_api(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The API's package for this machine's processor, unzipped."""
    return unzipped(f"api-{ARCHITECTURE}", tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="session")
def lambda_migrate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The migrating package for this machine's processor, unzipped."""
    return unzipped(f"migrate-{ARCHITECTURE}", tmp_path_factory.mktemp("migrate"))


@pytest.fixture(scope="session")
def vercel_function() -> Path:
    """The function that Vercel's command line built."""
    (function,) = (BUILD / "vercel" / ".vercel" / "output" / "functions").glob("*.func")
    return function


@pytest.fixture(params=ROUTES)
def urls(request: pytest.FixtureRequest, servers: Servers, template: str) -> Iterator[Urls]:
    """A migrated database of this test's own, by each route."""
    with servers.copy(template) as name:
        yield Urls(servers.url("pooled", name), servers.url("direct", name), request.param)
