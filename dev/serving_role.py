"""`python -m dev.serving_role`: let the role that owns nothing log in, if the migrations made one.

A process of its own: libpq reads its variables of the environment, which may be about another server.
"""

from __future__ import annotations

import sys
from typing import Any

import psycopg

from lib.onetrip.connection.source import direct_url
from lib.onetrip.settings.settings import settings_or_exit

SERVING_ROLE = "app_caller"
NO_ROLE = 3
_GRANTED = "SELECT 1 FROM information_schema.role_table_grants WHERE grantee = %s LIMIT 1"


def main() -> int:
    """Return 0 if the role may log in from now on, `NO_ROLE` if there is none with a right."""
    arguments: Any = direct_url(settings_or_exit()).connect_arguments()
    with psycopg.connect(**arguments, autocommit=True) as connection:
        if connection.execute(_GRANTED, [SERVING_ROLE]).fetchone() is None:
            return NO_ROLE
        connection.execute(f"ALTER ROLE {SERVING_ROLE} LOGIN".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
