"""The environment of tests and of the processes that they start: nothing in it is of this machine."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from lib.onetrip.settings.settings import environment_with

PROJECT = Path(__file__).parents[2]
# Of the caller's settings only this one holds for the tests: `make test-plain` sets it.
SINGLE_FLIGHT = os.environ.get("DATABASE_SINGLE_FLIGHT", "on")
# Beginnings of the names of settings and of platforms' variables.
OURS = (
    *(
        "DATABASE_",
        "POSTGRES_",
        "NEON_",
        "DB_",
        "PG",
        "PORT",
        "ENVIRONMENT",
        "OPS_",
        "JWT_",
        "IDENTITY_",
        "SLOW_",
    ),
    *("CONNECTION_", "MIGRATION_", "AUTH_", "FASTAPI_ENV", "VERCEL", "AWS_"),
)
# As good as random, for the tests that sign tokens themselves.
JWT_SECRET_KEY = "k7Qw2mZp9Xv4Tn8Rb1Yc6Hs3Jd5Lf0Ga"
# One for all deployments here, whatever their databases are called.
JWT_ISSUER = "tests"

# For tests that start an application elsewhere; a file that imports FastAPI itself is left out anyway.
needs_fastapi = pytest.mark.skipif(find_spec("fastapi") is None, reason="fastapi is not installed")


def clean_environment(**variables: str) -> dict[str, str]:
    """An environment in which no setting is given but `variables`."""
    kept = {name: value for name, value in environment_with().items() if not name.startswith(OURS)}
    return {**kept, "PYTHONPATH": str(PROJECT), **variables}
