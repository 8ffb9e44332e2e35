"""Vercel's build command: a preview's database gets the schema that the preview's code expects.

`vercel.json` runs it after the dependencies were installed and before anything is compiled. It is off
until `PRODUCTION_DATABASE_HOST` names production's direct host, for only then can it be sure that a
preview does not use production's database. Production is migrated by the pipeline, before its code is
deployed; `MIGRATE_PRODUCTION=true` in production's variables does it here instead.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec

from deploy.toolbox import PROJECT, ToolError, run
from lib.onetrip.connection.source import direct_url
from lib.onetrip.settings.settings import settings_or_exit
from lib.onetrip.url.database_url import DatabaseURL


class WrongDatabaseError(Exception):
    """A preview has production's database, or production another's; the message says what to set."""


def main() -> int:
    """Migrate, or say why not; 1 if it failed or would have changed the wrong database."""
    if reason := reason_to_leave(os.environ):
        print(f"The database is left as it is: {reason}.")
        return 0
    environment, production = os.environ["VERCEL_ENV"], os.environ["PRODUCTION_DATABASE_HOST"]
    try:
        check_database(environment, production, direct_url(settings_or_exit()))
        print(f"Migrating the {environment} database over its direct URL", flush=True)
        print(f"{_migrate()}Its schema is the newest.")
    except (ToolError, WrongDatabaseError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def reason_to_leave(environ: Mapping[str, str]) -> str | None:
    """Why this build has no database to migrate, or None."""
    environment = environ.get("VERCEL_ENV")
    if environment not in {"preview", "production"}:
        return "this is neither a preview nor production"
    if environment == "production" and environ.get("MIGRATE_PRODUCTION") != "true":
        return "production is migrated before its code is deployed (or set MIGRATE_PRODUCTION=true)"
    if not environ.get("PRODUCTION_DATABASE_HOST"):
        return "PRODUCTION_DATABASE_HOST does not say which host a preview must never change"
    return None


def check_database(environment: str, production: str, url: DatabaseURL) -> None:
    """Raise `WrongDatabaseError` unless production's host is production's alone."""
    if "/" in production or "@" in production:
        # Not repeated: a pasted URL holds a password.
        raise WrongDatabaseError("PRODUCTION_DATABASE_HOST: is no host. Give the part between @ and /.")
    is_productions = _direct_host(url.host) == _direct_host(production)
    if environment == "preview" and is_productions:
        raise WrongDatabaseError(
            f"This preview's database is production's ({production}), and no preview changes that. "
            "Give previews a database of their own: turn on branches for previews in Neon's integration."
        )
    if environment == "production" and not is_productions:
        raise WrongDatabaseError(
            f"PRODUCTION_DATABASE_HOST: {production} is not where production's database is. Correct it: "
            "it is what keeps previews away from there."
        )


def _direct_host(host: str | None) -> str | None:
    return DatabaseURL(host=(host or "").strip().rstrip(".").lower()).direct().host


def _migrate() -> str:
    with tempfile.TemporaryDirectory() as folder:
        variables = {"PYTHONPATH": folder}
        if find_spec("alembic") is None:
            # In a folder of its own: what is in the build's environment goes into the function.
            group = f"--group={PROJECT / 'pyproject.toml'}:migrations"
            run(
                _uv(),
                "pip",
                "install",
                "--quiet",
                "--python",
                sys.executable,
                "--target",
                folder,
                "--no-deps",
                group,
            )
        return run(sys.executable, "-m", "alembic", "upgrade", "head", variables=variables)


def _uv() -> str:
    found = shutil.which("uv")
    if found is None:
        raise ToolError(
            "uv is needed to install Alembic: Vercel's machines have it. Install it, and try again."
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
