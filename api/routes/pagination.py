"""Lists in pages: the parameters that a client sends, and the page that it gets."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Request, Response
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

    limit: Annotated[
        int,
        Field(ge=1, le=100, description="items at most; a page of long texts ends earlier"),
        PLAIN,
    ] = 20
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
    total: int | None = Field(examples=[1])
    next_cursor: str | None = Field(examples=[None])


class Links:
    """The request's own address, to write the `Link` header (RFC 8288) of a page."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request = request
        self._response = response

    def write(self, query: PageQuery, page: Page[T]) -> None:
        """Say where the first, the next and, by offset, the page before are."""
        links = {"first": self._to()}
        if page.next_cursor:
            links["next"] = self._to(cursor=page.next_cursor)
        if query.offset:
            links["prev"] = self._to(offset=max(0, query.offset - query.limit))
        self._response.headers["Link"] = ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items())

    def _to(self, **position: str | int) -> str:
        others = [
            pair for pair in self._request.query_params.multi_items() if pair[0] not in {"cursor", "offset"}
        ]
        query = urlencode([*others, *position.items()])
        return f"{self._request.scope['path']}?{query}" if query else str(self._request.scope["path"])


async def get_links(request: Request, response: Response) -> Links:
    """Writes the links of a page into the response's headers."""
    return Links(request, response)


LinksDep = Annotated[Links, Depends(get_links)]


def page_of(session: Session, statement: Select[T], order: Order, query: PageQuery, links: Links) -> Page[T]:
    """The page of `statement` in `order` that `query` asks for; 422 if its cursor is not of this list."""
    try:
        page = fetch_page(
            session, statement, order, limit=query.limit, offset=query.offset, cursor=query.cursor
        )
    except InvalidCursorError as error:
        part = {"type": "cursor", "loc": ("query", "cursor"), "msg": str(error)}
        raise RequestValidationError([part]) from error
    links.write(query, page)
    return page
