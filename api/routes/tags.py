"""Tags: the words on one's tasks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response

from api.caller import CallerReadSessionDep, CallerSessionDep
from api.routes.idempotency import OnceDep
from api.routes.pagination import LinksDep, PageOut, PageQuery, page_of
from api.routes.route import Route
from api.routes.types import Id, Input, Name, Output
from api.routes.versions import CONDITIONAL, VersionsDep, require_unchanged, tagged
from lib.example import tags
from lib.example.pagination import Page
from lib.example.tables.tasks import Tag
from lib.onetrip.fastapi.problem_details import problems

router = APIRouter(prefix="/tags", tags=["tags"], route_class=Route, responses=problems(401, 422, 503, 504))


class TagIn(Input):
    name: Name


class TagOut(Output):
    id: int
    name: str


@router.post("", status_code=201, response_model=TagOut, responses=problems(400, 409, 413, 415))
def create_tag(tag: TagIn, session: CallerSessionDep, once: OnceDep) -> Any:
    """Make a tag; 409 if there is one of this name, whatever its case."""
    return once(session, tag, TagOut, lambda: tags.create(session, tag.name, once.last))


@router.get("", response_model=PageOut[TagOut])
def list_tags(
    session: CallerReadSessionDep, query: Annotated[PageQuery, Query()], links: LinksDep
) -> Page[Tag]:
    """Tags by name."""
    return page_of(session, tags.own(), tags.ORDER, query, links)


@router.get("/{tag_id:row}", response_model=TagOut, responses=problems(404))
def read_tag(tag_id: Id, session: CallerReadSessionDep, response: Response) -> Tag:
    """One tag."""
    return tagged(response, _found(session.scalar(tags.own().where(Tag.id == tag_id))))


@router.patch("/{tag_id:row}", response_model=TagOut, responses=CONDITIONAL | problems(404, 409, 413, 415))
def rename_tag(
    tag_id: Id, tag: TagIn, session: CallerSessionDep, versions: VersionsDep, response: Response
) -> Tag:
    """Give a tag another name, on all tasks that have it."""
    renamed = tags.rename(session, tag_id, tag.name, versions)
    if renamed is None:
        require_unchanged(session, versions, tags.own().where(Tag.id == tag_id))
    return tagged(response, _found(renamed))


@router.delete(
    "/{tag_id:row}", status_code=204, response_class=Response, responses=CONDITIONAL | problems(404)
)
def delete_tag(tag_id: Id, session: CallerSessionDep, versions: VersionsDep) -> None:
    """Take a tag off all tasks and delete it."""
    if not tags.remove(session, tag_id, versions):
        require_unchanged(session, versions, tags.own().where(Tag.id == tag_id))
        _found(None)


def _found(tag: Tag | None) -> Tag:
    if tag is None:
        raise HTTPException(404, "There is no such tag.")
    return tag
