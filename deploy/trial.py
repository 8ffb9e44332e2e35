"""Each package is started and asked on this machine before it counts as built.

In a Python of the platform's version with nothing but the package and the standard library, so that a module
that is missing there is missing here.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from deploy.toolbox import ToolError, python, run

# Nothing listens there: an application starts and says that it lives without its database.
_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
_FUNCTION = {"AWS_LAMBDA_FUNCTION_NAME": "trial", "AWS_REGION": "us-east-1"}
_WEB_FUNCTION = {"AWS_LAMBDA_HTTP_ENDPOINT": "127.0.0.1:3000"}
_VERCEL = {"VERCEL": "1", "VERCEL_ENV": "preview"}
# The last line of a traceback, alone or in a line of the log.
_ERROR = re.compile(r"[A-Z]\w*(?:Error|Exit): [^\n\"\\]*")
_START = """
import sys
sys.path[:0] = sys.argv[1:]
"""
# All modules of the distributions in the package, and those that only a first query imports.
_COMPLETE = """
import importlib.metadata as metadata, re, sys
def normal(name):
    return re.sub("[-_.]+", "-", name).lower()
installed = list(metadata.distributions(path=sys.argv[1:]))
there = {normal(each.metadata["Name"]) for each in installed}
for each in installed:
    for line in each.requires or ():
        name = re.match("[A-Za-z0-9._-]+", line)[0]
        if ";" not in line and normal(name) not in there:
            raise ModuleNotFoundError(f"{name}, which {each.metadata['Name']} requires")
import greenlet, psycopg, sqlalchemy.ext.asyncio
if psycopg.pq.__impl__ != "binary":
    raise ModuleNotFoundError("psycopg_binary: this machine's libpq is not on the platform")
"""
_ASK_FUNCTION = """
import importlib
class Context:
    aws_request_id = "trial"
    def get_remaining_time_in_millis(self):
        return 10_000
http = {"method": "GET", "path": "/health/live", "sourceIp": "127.0.0.1"}
event = {"version": "2.0", "rawQueryString": "", "headers": {"host": "trial"},
    "requestContext": {"http": http, "stage": "$default"}, "isBase64Encoded": False}
answer = importlib.import_module(MODULE).handler(event, Context())
assert answer["statusCode"] == 200, answer
"""
_ASK_APPLICATION = """
import asyncio
from api.index import app
scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/health/live", "raw_path": b"",
    "root_path": "", "query_string": b"", "headers": [], "scheme": "http", "client": None, "server": None,
    "asgi": {"version": "3.0"}}
statuses = []
async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}
async def send(message):
    statuses.append(message.get("status"))
asyncio.run(app(scope, receive, send))
assert statuses[0] == 200, statuses
# Routers that are included on demand are imported for it.
app.openapi()
"""
_WRITE_MIGRATIONS = """
import io, api.aws_migrate
from alembic import command
from alembic.config import Config
config = Config(output_buffer=io.StringIO())
config.set_main_option("script_location", str(api.aws_migrate.MIGRATIONS))
command.upgrade(config, "head", sql=True)
"""


def try_function(package: Path) -> None:
    """Start Lambda's `package`, and ask it by each of its entrypoints; raise `ToolError` if one fails."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
        if package.name.startswith("migrate"):
            _start(package, [folder], _COMPLETE + _WRITE_MIGRATIONS, _FUNCTION)
            return
        for module in ("api.aws_lambda", "api.aws_health"):
            _start(package, [folder], f"MODULE = {module!r}{_ASK_FUNCTION}", _FUNCTION)
        _start(package, [folder], _COMPLETE + _ASK_APPLICATION, _WEB_FUNCTION)


def try_vercel(output: Path) -> None:
    """Start the function that Vercel's command line built, and ask it."""
    for function in (output / "functions").glob("*.func"):
        _start(function, [function, function / "_vendor"], _COMPLETE + _ASK_APPLICATION, _VERCEL)


def compare(package: Path, other: Path) -> None:
    """Raise `ToolError` unless another processor's package, which cannot start here, has the same modules."""
    here, there = (_modules(path) for path in (package, other))
    if different := sorted(here ^ there):
        raise ToolError(f"{other.name} and {package.name} differ by more than processors: {different[:5]}")


def _modules(package: Path) -> set[str]:
    """The files that are for any processor, and the folders of those that are not."""
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    return {name if ".so" not in name else name.rpartition("/")[0] for name in names if ".libs/" not in name}


def _start(package: Path, folders: list[Path], program: str, platform: Mapping[str, str]) -> None:
    settings = {"DATABASE_URL": _NOWHERE, "ENVIRONMENT": "preview", **platform}
    given = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    with tempfile.TemporaryDirectory() as elsewhere:
        # -I and -S: no package of this machine is found. Not in the project's folder, where a `.env` may lie.
        options = ("-I", "-S", "-B", "-c", _START + program)
        try:
            run(python(), *options, *folders, folder=Path(elsewhere), only=given | settings)
        except ToolError as error:
            said = _ERROR.findall(str(error)) or [str(error)]
            raise ToolError(f"{package.name} cannot start: {said[-1]}") from error
