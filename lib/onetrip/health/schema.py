"""The schema's state: a database's revision compared with the migrations that the code knows.

Deployed packages hold neither migrations nor Alembic, so the application passes its revisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

SchemaState = Literal["current", "behind", "ahead"]


def state_of(revision: str | None, revisions: Sequence[str]) -> SchemaState:
    """Compare a database's revision (None: never migrated) with `revisions`, the newest last.

    An unknown revision is newer: the database is migrated before the code that needs it is deployed.
    """
    if revision == revisions[-1]:
        return "current"
    return "behind" if revision is None or revision in revisions else "ahead"
