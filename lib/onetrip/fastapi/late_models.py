"""Stand-ins for FastAPI's models of OpenAPI documents, which are imported when one of them is looked at.

There are dozens of them, a quarter of what importing FastAPI takes, and only a document needs them. FastAPI's
modules name some of them in annotations, and its security schemes make one each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

NAME = "fastapi.openapi.models"


@contextmanager
def late_models() -> Iterator[None]:
    """Let FastAPI be imported with stand-ins in the block; who imports the models later gets the models."""
    if "fastapi" in sys.modules:
        yield
        return
    sys.modules[NAME] = _StandIns(NAME)
    try:
        yield
    finally:
        del sys.modules[NAME]
        vars(sys.modules["fastapi.openapi"]).pop("models", None)


class _StandIns(ModuleType):
    """The module while FastAPI is imported: each of its names is a stand-in's."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _LateClass(name, (), {"__module__": NAME})
        setattr(self, name, made)
        return made


class _LateClass(type):
    """A class that stands for a model's."""

    def __call__(cls, *arguments: Any, **values: Any) -> Any:
        return _LateModel(cls, arguments, values)

    def __getattr__(cls, name: str) -> Any:
        return getattr(_own(cls), name)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _own(cls))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _own(cls))


def _own(late: type) -> Any:
    """FastAPI's own class."""
    return getattr(import_module(NAME), late.__name__)


class _LateModel:
    """A model that is made when something looks at it."""

    def __init__(self, late: type, arguments: tuple[Any, ...], values: dict[str, Any]) -> None:
        self._late, self._arguments, self._values = late, arguments, values

    @cached_property
    def _model(self) -> Any:
        values = {
            name: value._model if type(value) is _LateModel else value  # noqa: SLF001  (one within it)
            for name, value in self._values.items()
        }
        return _own(self._late)(*self._arguments, **values)

    @property  # type: ignore[misc]  # it is never set
    def __class__(self) -> Any:
        # By this `isinstance` knows it.
        return _own(self._late)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"_late", "_arguments", "_values"}:
            object.__setattr__(self, name, value)
        else:
            setattr(self._model, name, value)

    def __eq__(self, other: object) -> bool:
        return bool(self._model == (other._model if type(other) is _LateModel else other))

    __hash__ = None  # type: ignore[assignment]  # as the models have none

    def __repr__(self) -> str:
        return repr(self._model)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._model.__reduce_ex__(protocol)
