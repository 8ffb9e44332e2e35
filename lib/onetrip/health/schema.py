"""Which migrations this code knows, so that it can tell whether the database is behind.

The packages that serve requests hold no migrations and no Alembic; a test keeps this list and the
migrations equal.
"""

from __future__ import annotations

from typing import Literal

# In their order, the newest last.
REVISIONS = ("0001",)

SchemaState = Literal["current", "behind", "ahead"]


def state_of(revision: str | None) -> SchemaState:
    """What the revision that a database is at means here; None: nothing was ever migrated there.

    One that is not known is newer: the database is migrated before the code that wants it is deployed.
    """
    if revision == REVISIONS[-1]:
        return "current"
    return "behind" if revision is None or revision in REVISIONS else "ahead"
