"""What a key that signs tokens must be, so that nobody finds it out."""

from __future__ import annotations

import re

# As long as what HS256 makes of it: a shorter key can be guessed at leisure, from a single token.
MIN_KEY_BYTES = 32
NEW_KEY = "Set it to what this prints: openssl rand -base64 32"
# What stands in documentation, tutorials and templates where a key belongs.
_PLACEHOLDER = re.compile(
    r"change.?(me|this|it)|replace|placeholder|your.?(secret|key|jwt)|example|insecure", re.IGNORECASE
)
_MIN_DISTINCT = 8


def weakness(key: str) -> str | None:
    """What is wrong with a key, if anything, without repeating it."""
    if len(key.encode()) < MIN_KEY_BYTES:
        return f"is shorter than {MIN_KEY_BYTES} bytes."
    if _PLACEHOLDER.search(key) or len(set(key)) < _MIN_DISTINCT:
        return "is a placeholder, which anyone can guess."
    return None
