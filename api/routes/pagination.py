"""Lists in pages: what a client asks for, and what it gets."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Select
from sqlalchemy.orm import Session

from api.routes.types import PLAIN, Input, Output
from lib.example.pagination import MAX_CURSOR_LENGTH, InvalidCursorError, Order, Page, fetch_page

T = TypeVar("T")


class PageQuery(Input):
    """Which part of a list: by offset, or after the cursor of the page before."""

    limit: Annotated[int, Field(ge=1, le=100), PLAIN] = 20
    offset: Annotated[int, Field(ge=0, le=10_000), PLAIN] = 0
    cursor: str | None = Field(
        default=None, max_length=MAX_CURSOR_LENGTH, description="`next_cursor` of the page before"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> PageQuery:
        if self.cursor is not None and self.offset:
            raise PydanticCustomError("offset_and_cursor", "Use offset or cursor, not both")
        return self


class PageOut(Output, Generic[T]):
    """A part of a list. `total` counts all of it, by offset only; no `next_cursor` on the last page."""

    items: list[T]
    total: int | None
    next_cursor: str | None


def page_of(session: Session, statement: Select[T], order: Order, query: PageQuery) -> Page[T]:
    """The page of `statement` in `order` that `query` asks for; 422 if its cursor is not of this list."""
    try:
        return fetch_page(
            session, statement, order, limit=query.limit, offset=query.offset, cursor=query.cursor
        )
    except InvalidCursorError as error:
        part = {"type": "cursor", "loc": ("query", "cursor"), "msg": str(error)}
        raise RequestValidationError([part]) from error
