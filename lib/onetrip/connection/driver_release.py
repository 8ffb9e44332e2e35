"""The releases of psycopg that the connections are written for.

They override what psycopg does not document, with the single flight and without it, so a release that was
not read may pass an override by. It is used all the same, since it may mend what matters more.
"""

from __future__ import annotations

import logging
from functools import cache

import psycopg

OLDEST_READ, NEWEST_READ = (3, 3, 4), (3, 3, 9)

logger = logging.getLogger(__name__)


@cache
def note_release(release: str = psycopg.__version__) -> None:
    """Warn, once in a process, of a release that was not read."""
    numbers = tuple(int(part) for part in release.split(".")[:3] if part.isdecimal())
    if not OLDEST_READ <= numbers <= NEWEST_READ:
        known = ".".join(map(str, NEWEST_READ))
        logger.warning(
            "psycopg %s was not there when its insides were read for this package. "
            "Install psycopg %s, or run the package's tests with yours.",
            release,
            known,
        )
