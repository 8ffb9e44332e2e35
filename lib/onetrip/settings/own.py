"""The application's own settings, found by name: a start-up imports them late."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from .checked import CheckedSettings


def named(name: str) -> Sequence[type[CheckedSettings]]:
    """The classes under a name such as "lib.settings:OWN"."""
    module, _, attribute = name.partition(":")
    found: Sequence[type[CheckedSettings]] = getattr(import_module(module), attribute)
    return found
