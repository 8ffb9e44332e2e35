"""One page of a list: by offset with a total, or after a cursor that stays right while rows come and go."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

T = TypeVar("T")
MAX_BIGINT = 2**63 - 1


class InvalidCursorError(ValueError):
    """The cursor was not made by this list in this order."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items, how many there are in all (by offset only), and where the next page starts."""

    items: Sequence[T]
    total: int | None
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """Sort by a column that is never null, then by id, so that no two rows are equal."""

    name: str
    column: InstrumentedAttribute[Any]
    id: InstrumentedAttribute[int]
    descending: bool = False

    def apply(self, statement: Select[tuple[T]]) -> Select[tuple[T]]:
        """`statement` in this order."""
        keys = (self.column, self.id)
        return statement.order_by(*(key.desc() if self.descending else key.asc() for key in keys))

    def after(self, statement: Select[tuple[T]], cursor: str) -> Select[tuple[T]]:
        """The rows of `statement` that come after `cursor`; raise `InvalidCursorError`."""
        keys = tuple_(self.column, self.id)
        position = tuple_(*self._decode(cursor))
        return statement.where(keys < position if self.descending else keys > position)

    def cursor(self, item: object) -> str:
        """The cursor that stands at `item`."""
        value = getattr(item, self.column.key)
        text = value.isoformat() if isinstance(value, datetime) else value
        payload = json.dumps([self._label, text, getattr(item, self.id.key)])
        return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")

    @property
    def _label(self) -> str:
        return f"-{self.name}" if self.descending else self.name

    def _decode(self, cursor: str) -> tuple[Any, int]:
        try:
            label, value, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            valid = label == self._label and type(row_id) is int and 0 < row_id <= MAX_BIGINT
            return self._value(value) if valid else _refuse(), row_id
        except (binascii.Error, ValueError, TypeError, RecursionError):
            raise InvalidCursorError("The cursor does not belong to this list and order.") from None

    def _value(self, value: Any) -> Any:
        kind = self.column.type.python_type
        if kind is datetime:
            return datetime.fromisoformat(value)
        if kind is int and not (type(value) is int and 0 <= value <= MAX_BIGINT):
            return _refuse()
        return kind(value)


def fetch_page(  # noqa: PLR0913  (what a page is)
    session: Session, statement: Select[tuple[T]], order: Order, *, limit: int, offset: int = 0, cursor: str | None = None
) -> Page[T]:
    """The page of `statement` in `order`, in one query (two when an offset lies beyond the end)."""
    if cursor is not None:
        rows = list(session.scalars(order.apply(order.after(statement, cursor)).limit(limit + 1)))
        return _page(rows, None, order, limit)
    counted = order.apply(statement).add_columns(func.count().over()).limit(limit + 1).offset(offset)
    found = session.execute(counted).all()
    if not found and offset:
        total = session.scalar(select(func.count()).select_from(statement.subquery()))
        return Page([], total, None)
    return _page([row[0] for row in found], found[0][1] if found else 0, order, limit)


def _page(rows: list[T], total: int | None, order: Order, limit: int) -> Page[T]:
    more = len(rows) > limit
    items = rows[:limit]
    return Page(items, total, order.cursor(items[-1]) if more else None)


def _refuse() -> Any:
    raise ValueError
