"""One page of a list: by offset with a total, or after a cursor that stays right while rows come and go."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

T = TypeVar("T")
MAX_BIGINT = 2**63 - 1
# Holds the longest text that is sorted by: 200 characters, each written as an escape of six.
MAX_CURSOR_LENGTH = 2048
# Of a page's texts. JSON may double them, and the platforms take 4.5 MB (Vercel) and 6 MB (Lambda).
MAX_PAGE_BYTES = 1_000_000


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

    def apply(self, statement: Select[T]) -> Select[T]:
        """`statement` in this order."""
        keys = (self.column, self.id)
        return statement.order_by(*(key.desc() if self.descending else key.asc() for key in keys))

    def after(self, statement: Select[T], cursor: str) -> Select[T]:
        """The rows of `statement` that come after `cursor`; raise `InvalidCursorError`."""
        keys = tuple_(self.column, self.id)
        position = tuple_(*self._decode(cursor))
        return statement.where(keys < position if self.descending else keys > position)

    def cursor(self, item: object) -> str:
        """The cursor that stands at `item`."""
        value = getattr(item, self.column.key)
        text = value.isoformat() if isinstance(value, datetime) else value
        payload = json.dumps([self._label, text, getattr(item, self.id.key)], ensure_ascii=False)
        return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")

    @property
    def _label(self) -> str:
        """Return a key that identifies this list in this order."""
        return f"{self.id.class_.__tablename__}:{'-' if self.descending else ''}{self.name}"

    def _decode(self, cursor: str) -> tuple[Any, int]:
        try:
            label, value, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            return (self._value(value), _bigint(row_id)) if label == self._label else _refuse()
        except (binascii.Error, ValueError, TypeError, RecursionError):
            raise InvalidCursorError("The cursor does not belong to this list and order.") from None

    def _value(self, value: Any) -> Any:
        kind = self.column.type.python_type
        if kind is int:
            return _bigint(value)
        return _moment(value) if kind is datetime else kind(_text(value))


def fetch_page(  # noqa: PLR0913  (what a page is)
    session: Session,
    statement: Select[T],
    order: Order,
    *,
    limit: int,
    offset: int = 0,
    cursor: str | None = None,
) -> Page[T]:
    """The page of `statement` in `order`, in one query (two when an offset lies beyond the end)."""
    if cursor is not None:
        rows = list(session.scalars(order.apply(order.after(statement, cursor)).limit(limit + 1)))
        return _page(rows, None, order, limit)
    # Counted apart from the page, which ends after `limit` rows: a count needs no columns and no order.
    counting = statement.with_only_columns(func.count(), maintain_column_froms=True)
    total = counting.correlate(None).scalar_subquery()
    found = session.execute(order.apply(statement).add_columns(total).limit(limit + 1).offset(offset)).all()
    if not found:
        return Page([], session.scalar(counting) if offset else 0, None)
    return _page([row[0] for row in found], found[0][1], order, limit)


def _page(rows: list[T], total: int | None, order: Order, limit: int) -> Page[T]:
    items = rows[: min(limit, _fitting(rows))]
    return Page(items, total, order.cursor(items[-1]) if len(items) < len(rows) else None)


def _fitting(rows: Sequence[object]) -> int:
    """The number of rows, from the first, whose texts fit into a page; at least one."""
    sizes = (
        sum(len(value.encode()) for value in vars(row).values() if isinstance(value, str)) for row in rows
    )
    return max(1, sum(1 for size in accumulate(sizes) if size <= MAX_PAGE_BYTES))


def _bigint(value: Any) -> int:
    return value if type(value) is int and 0 < value <= MAX_BIGINT else _refuse()


def _moment(value: Any) -> datetime:
    """Without a zone it would mean another moment on another server."""
    moment = datetime.fromisoformat(_text(value))
    return moment if moment.tzinfo else _refuse()


def _text(value: Any) -> str:
    """Return True for text that PostgreSQL takes: no NUL, and nothing that UTF-8 cannot encode."""
    return value if isinstance(value, str) and b"\0" not in value.encode() else _refuse()


def _refuse() -> Any:
    raise ValueError
