"""The strength of a secret that people set: long, random, and not one that stands in a tutorial."""

from __future__ import annotations

import re
from hashlib import sha256
from math import log2

# Enough where each guess takes a request.
MIN_BYTES, MIN_BITS = 16, 30.0
NEW_KEY = "Set it to what this prints: openssl rand -base64 32"
# Placeholders of documentation and templates.
_PLACEHOLDER = re.compile(
    r"change.?(me|this|it)|replace|placeholder|your.?(secret|key|jwt)|example|insecure", re.IGNORECASE
)
# Random keys that everyone knows, by the first bytes of their SHA-256: those of FastAPI's tutorial, of
# Flask's manual and of what is copied from them.
_WELL_KNOWN = frozenset({"570dad43de1af4c9", "2598f7d6adc142d8", "1be877d872bee1e4"})
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890")
_KEYBOARD = re.compile(
    "|".join(row[at : at + 4] for row in _ROWS for at in range(len(row) - 3)), re.IGNORECASE
)
# English text has letters of a mean rank of 6, random text of 12.5.
_LETTERS_BY_FREQUENCY = "etaoinsrhldcumfpgwybvkxjqz"
_TEXT_RANK = 9.0
_TEXT_RUN = 3.0
_TEXT_SEPARATORS = 3
_TEXT_BITS = 1.7  # a letter
_SYMBOL_BITS = 5.0
_MIN_DISTINCT = 8


def weakness(key: str, *, min_bytes: int = MIN_BYTES, min_bits: float = MIN_BITS) -> str | None:
    """Return the problem of a key, if it has one, without repeating the key."""
    if len(key.encode()) < min_bytes:
        return f"is shorter than {min_bytes} bytes."
    is_known = sha256(key.encode()).hexdigest()[:16] in _WELL_KNOWN
    if is_known or _PLACEHOLDER.search(key) or len(set(key)) < _MIN_DISTINCT:
        return "is a placeholder, which anyone can guess."
    if _bits(key) < min_bits:
        return "is not random enough, so that it can be guessed."
    return None


def _bits(key: str) -> float:
    """A cautious estimate of the key's entropy: words count little, sequences next to nothing."""
    # A text that is the same when it is rotated repeats a shorter one.
    key = key[: (key + key).index(key, 1)]
    if any(_is_sequence(key, stride) for stride in (2, 3)):
        return 0.0
    key = _KEYBOARD.sub(" ", _without_sequences(key))
    digits = sum(character.isdigit() for character in key)
    words = _WORDS.findall(key)
    symbols = {character for character in key if not character.isalnum()}
    letter_bits = log2(16) if _HEX.fullmatch(key) else _TEXT_BITS if _is_text(key, words) else log2(26)
    letters = sum(map(len, {*words} if letter_bits == _TEXT_BITS else words))
    bits = digits * log2(10) + letters * letter_bits + len(symbols) * _SYMBOL_BITS
    return min(bits, len(key) * log2(len(set(key))))


def _is_text(key: str, words: list[str]) -> bool:
    """Return True if the letters are words: long runs of frequent letters, or words with one separator."""
    letters = "".join(words).lower()
    if len(letters) < len(words) * _TEXT_RUN or not letters:
        return False
    rank = sum(map(_LETTERS_BY_FREQUENCY.index, letters)) / len(letters)
    return rank < _TEXT_RANK or max(map(key.count, " -_.")) >= _TEXT_SEPARATORS


def _is_sequence(key: str, stride: int) -> bool:
    """Return True if most characters equal or follow the one `stride` before, as in 1a2b3c."""
    steps = _steps(key, stride)
    return sum(steps) * 2 > len(steps)


def _without_sequences(key: str) -> str:
    """The key with three characters of each longer sequence, such as aaaa or 1234."""
    steps = _steps(key, 1)
    return key[:3] + "".join(key[at] for at in range(3, len(key)) if not all(steps[at - 3 : at]))


def _steps(key: str, stride: int) -> list[bool]:
    return [abs(ord(after) - ord(before)) <= 1 for before, after in zip(key, key[stride:], strict=False)]
