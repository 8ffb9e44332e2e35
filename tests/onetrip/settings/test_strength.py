"""Keys that can be guessed are told from random ones."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable

import pytest

from lib.onetrip.settings.settings import load_settings
from lib.onetrip.settings.strength import weakness

# What a key is asked for that can be guessed at leisure.
KEY_BYTES, KEY_BITS = 32, 90.0
GUESSABLE = [
    # FastAPI's tutorial, Flask's manual, a site that decodes tokens.
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    "a-string-secret-at-least-256-bits-long",
    "my-super-secret-jwt-signing-key-2024",
    "my-super-long-jwt-signing-key-for-production-2024",
    "0123456789abcdef" * 2,
    "aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpP",
    "1a2b3c4d5e6f7g8h9i0j1k2l3m4n5o6p",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "correct-horse-battery-staple-correct-horse",
    "thisisaverylongkeythatnobodywillguess",
    "Abc123!Abc123!Abc123!Abc123!Abc123!",
    "x" * 64,
]
WAYS: dict[str, Callable[[random.Random], str]] = {
    "base64": lambda chance: base64.b64encode(chance.randbytes(32)).decode(),
    "url-safe": lambda chance: base64.urlsafe_b64encode(chance.randbytes(32)).decode().rstrip("="),
    "64 hexadecimal digits": lambda chance: chance.randbytes(32).hex(),
    "32 hexadecimal digits": lambda chance: chance.randbytes(16).hex(),
    "letters and digits": lambda chance: "".join(chance.choices(string.ascii_letters + string.digits, k=32)),
}


@pytest.mark.parametrize("key", GUESSABLE)
def test_a_key_that_can_be_guessed_is_refused(key: str) -> None:
    """A guessed key signs tokens for every user: keys of manuals, sentences, sequences, repetitions."""
    assert weakness(key, min_bytes=KEY_BYTES, min_bits=KEY_BITS)


@pytest.mark.parametrize("way", WAYS)
def test_a_random_key_is_taken(way: str) -> None:
    """In each spelling: of a thousand random keys, at most a few are taken for guessable ones."""
    chance = random.Random(1)
    keys = [WAYS[way](chance) for _ in range(1000)]
    assert sum(weakness(key, min_bytes=KEY_BYTES, min_bits=KEY_BITS) is not None for key in keys) <= 3


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("aaaaaaaaaaaaaaaa", "placeholder"),
        ("changeme-changeme", "placeholder"),
        ("password-password", "not random enough"),
        ("é" * 20, "beyond ASCII"),
    ],
)
def test_an_operators_token_that_can_be_guessed_is_refused(token: str, told: str) -> None:
    """In production as in a preview; the refusal does not repeat it."""
    with pytest.raises(Exception, match=told) as refused:
        load_settings(DATABASE_URL="postgresql://u@localhost/d", ENVIRONMENT="production", OPS_TOKEN=token)
    assert token not in str(refused.value)


def test_a_random_token_is_taken() -> None:
    """Sixteen random characters are enough where a guess takes a request."""
    chance = random.Random(1)
    tokens = [chance.randbytes(12).hex() for _ in range(1000)]
    assert sum(weakness(token) is not None for token in tokens) <= 3
