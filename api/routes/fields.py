"""The types of what clients send and get, with their bounds."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

T = TypeVar("T")
MAX_BIGINT = 2**63 - 1
# PostgreSQL's text takes every character but NUL.
NO_NUL = r"^[^\x00]*$"

Id = Annotated[int, Path(ge=1, le=MAX_BIGINT)]
Reference = Annotated[int, Field(ge=1, le=MAX_BIGINT)]
SearchText = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_NUL)]
Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+$")]


class Input(BaseModel):
    """What a client sends; a field we do not know is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """What a client gets, read from a table's row."""

    model_config = ConfigDict(from_attributes=True)


class PageQuery(Input):
    """Which part of a list: by offset, or after the cursor of the page before."""

    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=10_000)
    cursor: str | None = Field(default=None, max_length=1024, description="`next_cursor` of the page before")


class PageOut(Output, Generic[T]):
    """A part of a list. `total` counts all of it, by offset only; no `next_cursor` on the last page."""

    items: list[T]
    total: int | None
    next_cursor: str | None
