"""Properties that are made on first use, once even if threads ask together."""

from __future__ import annotations

from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

_making = RLock()

if TYPE_CHECKING:
    locked_cached_property = cached_property
else:

    class locked_cached_property(cached_property):  # noqa: N801  (a decorator, as its base)
        """A cached property behind a lock, which Python 3.12 dropped."""

        def __get__(self, instance: object, owner: type | None = None) -> Any:
            with _making:
                return super().__get__(instance, owner)
