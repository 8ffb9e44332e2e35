"""Tags: the words on one's tasks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from sqlalchemy import delete, update
from sqlalchemy.dialects.postgresql import insert

from api.caller import CallerDep, CallerReadSessionDep, CallerSessionDep
from api.routes.pagination import PageOut, PageQuery, page_of
from api.routes.types import Id, Input, Name, Output
from lib.example import tags
from lib.example.models import Tag
from lib.example.pagination import Page
from lib.onetrip.fastapi.problem_details import problems
from lib.onetrip.session.session import LAST

router = APIRouter(prefix="/tags", tags=["tags"], responses=problems(401, 422, 503, 504))


class TagIn(Input):
    name: Name


class TagOut(Output):
    id: int
    name: str


@router.post("", status_code=201, response_model=TagOut, responses=problems(409, 413))
def create_tag(tag: TagIn, session: CallerSessionDep, caller: CallerDep, response: Response) -> Tag:
    """Make a tag; 409 if there is one of this name, whatever its case."""
    statement = insert(Tag).values(owner_id=caller.id, name=tag.name).returning(Tag)
    row = session.scalars(statement, execution_options=LAST).one()
    response.headers["Location"] = f"/api/v1/tags/{row.id}"
    return row


@router.get("", response_model=PageOut[TagOut])
def list_tags(
    session: CallerReadSessionDep, caller: CallerDep, query: Annotated[PageQuery, Query()]
) -> Page[Tag]:
    """Tags by name."""
    return page_of(session, tags.of(caller.id), tags.ORDER, query)


@router.get("/{tag_id:row}", response_model=TagOut, responses=problems(404))
def read_tag(tag_id: Id, session: CallerReadSessionDep, caller: CallerDep) -> Tag:
    """One tag."""
    return _found(session.scalar(tags.of(caller.id).where(Tag.id == tag_id)))


@router.patch("/{tag_id:row}", response_model=TagOut, responses=problems(404, 409, 413))
def rename_tag(tag_id: Id, tag: TagIn, session: CallerSessionDep, caller: CallerDep) -> Tag:
    """Give a tag another name, on all tasks that have it."""
    statement = update(Tag).where(Tag.id == tag_id, Tag.owner_id == caller.id).values(name=tag.name)
    return _found(session.scalar(statement.returning(Tag), execution_options=LAST))


@router.delete("/{tag_id:row}", status_code=204, responses=problems(404))
def delete_tag(tag_id: Id, session: CallerSessionDep, caller: CallerDep) -> None:
    """Take a tag off all tasks and delete it."""
    statement = delete(Tag).where(Tag.id == tag_id, Tag.owner_id == caller.id).returning(Tag.id)
    if session.scalar(statement, execution_options=LAST) is None:
        raise HTTPException(404, "There is no such tag.")


def _found(tag: Tag | None) -> Tag:
    if tag is None:
        raise HTTPException(404, "There is no such tag.")
    return tag
