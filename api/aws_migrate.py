"""Lambda's entrypoint for migrations: `handler` upgrades the schema over the direct URL.

A function of its own: invoke it at deploy. It runs the code that is deployed beside the new
application, so its changes must suit the old one too (expand first, contract in a later deploy).
"""

from pathlib import Path
from typing import Any

MIGRATIONS = Path(__file__).parent.parent / "lib" / "migrations"


def handler(_event: object, _context: Any) -> dict[str, str | None]:
    """Run what `make migrate` runs; the schema's revision, or an error that says what is in the way."""
    # Here, so that what is wrong with a package or a setting is the answer to an invocation.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    command.upgrade(config, "head")
    return {"revision": ScriptDirectory.from_config(config).get_current_head()}
