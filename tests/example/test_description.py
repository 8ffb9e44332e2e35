"""The API keeps what its description promises, whatever a machine makes up from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI

from tests.example.conftest import Make, authorization
from tests.onetrip.served import served

# For each operation; hundreds take minutes: SCHEMATHESIS_EXAMPLES=200 make test ARGS="-k breaks_a_promise"
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "5")
# Facts outside a schema: the cursors that the server made, existing accounts and versions, and which
# passwords are common, which keys were used before.
CONFIGURATION = """
[[operations]]
include-name-regex = "^(GET /api/v1/[a-z]+|POST /api/v1/(?!auth/token|tasks/complete).*)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429"]

[[operations]]
include-name-regex = "^(PATCH|DELETE) "
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "412"]
"""
# The requests by which each kind of client would end its own token, and see nothing but 401 from then on.
ENDING = {
    None: "^$",
    "user": r"^(DELETE /api/v1/users/.*|POST /api/v1/users/me/password)$",
    "moderator": r"^(DELETE /api/v1/users/.*|POST /api/v1/users/me/password)$",
    "admin": r"^POST /api/v1/users/me/password$",
}


@pytest.mark.slow
@pytest.mark.parametrize("role", ENDING, ids=str)
@pytest.mark.parametrize("route", ["pooled"])
def test_no_request_made_from_the_description_breaks_a_promise(
    app: FastAPI, make_user: Make, tmp_path: Path, role: str | None
) -> None:
    """Every operation, with fitting and unfitting requests, by every kind of client: no check fails."""
    headers = authorization(make_user("root", role=role)["id"]) if role else {}
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    with served(app) as url:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--exclude-name-regex", ENDING[role]),
            *("--checks", "all", "--max-examples", EXAMPLES, "--seed", "1", "--no-color"),
            *(f"--header={name}: {value}" for name, value in headers.items()),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
