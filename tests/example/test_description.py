"""The API keeps what its description promises, whatever a machine makes up from it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from tests.conftest import free_port
from tests.example.conftest import Make, authorization
from tests.onetrip.network import until

# For each operation; hundreds take minutes: SCHEMATHESIS_EXAMPLES=200 make test ARGS="-k breaks_a_promise"
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "5")
# What no schema can say: which cursors the server made, which accounts there are.
CONFIGURATION = """
[[operations]]
include-name-regex = "^(GET /api/v1/[a-z]+|POST /api/v1/transfers)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422"]
"""


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a port of its own, for the block."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("route", ["pooled"])
def test_no_request_made_from_the_description_breaks_a_promise(
    app: FastAPI, make_user: Make, tmp_path: Path
) -> None:
    """Every operation, with what fits its schema and what does not: no check of schemathesis fails."""
    token = authorization(make_user("root", role="admin")["id"], app)["Authorization"]
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    with served(app) as url:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--checks", "all", "--max-examples", EXAMPLES, "--seed", "1", "--no-color"),
            *("--header", f"Authorization: {token}"),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
