"""Instances by their primary key, as reading sessions get them: by a query that is compiled once."""

from __future__ import annotations

from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Mapper

from .compiled import CompiledQuery

# What `instance_by_key` returns where SQLAlchemy has more to do.
ASK_SQLALCHEMY = object()
# Keys that stand for themselves; SQLAlchemy takes others apart.
_PLAIN = frozenset({int, str, UUID})


def instance_by_key(session: Any, entity: Any, key: object) -> Any:
    """The instance with this key, or None, if a loader will do for a new one."""
    if type(key) not in _PLAIN or not isinstance(entity, type):
        return ASK_SQLALCHEMY
    mapper, query = _query_by_key(entity)
    is_known = query and (mapper._identity_class, (key,), None) in session.identity_map  # noqa: SLF001
    if query is None or is_known or mapper.class_manager.dispatch.load:
        return ASK_SQLALCHEMY
    found = query.loaded(session, {"pk_1": key})
    if found is None:
        return ASK_SQLALCHEMY
    return found[0] if found else None


@cache
def _query_by_key(entity: type) -> tuple[Any, CompiledQuery[..., Any] | None]:
    """The mapper and SQLAlchemy's own query for an instance by its key."""
    mapper: Any = inspect(entity, raiseerr=False)
    if not isinstance(mapper, Mapper) or len(mapper.primary_key) != 1 or mapper.always_refresh:
        return None, None
    (column,) = mapper.primary_key

    def by_key(pk_1: Any) -> Select[Any]:
        return select(entity).where(column == pk_1)

    return mapper, CompiledQuery(by_key)
