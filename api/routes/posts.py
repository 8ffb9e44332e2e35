"""Posts: an author writes, reads and changes their own; moderators read all and may delete them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field, StringConstraints
from sqlalchemy.orm import Session

from api.caller import CallerReadSessionDep, CallerSessionDep
from api.routes.idempotency import OnceDep
from api.routes.pagination import LinksDep, PageOut, PageQuery, page_of
from api.routes.route import Route
from api.routes.types import LINES, Id, Input, Moment, Output, QueryId, Title
from api.routes.versions import CONDITIONAL, VersionsDep, require_unchanged, tagged
from lib.example import posts
from lib.example.pagination import Page
from lib.example.tables.posts import Post
from lib.onetrip.fastapi.problem_details import Refusal, problems

router = APIRouter(prefix="/posts", tags=["posts"], route_class=Route, responses=problems(401, 422, 503, 504))

Content = Annotated[str, StringConstraints(min_length=1, max_length=50_000), *LINES]


class PostIn(Input):
    title: Title
    content: Content


class PostChange(Input):
    title: Title = Field(default_factory=lambda: "")
    content: Content = Field(default_factory=lambda: "")


class Author(Output):
    id: int
    username: str


class PostOut(Output):
    id: int
    author: Author
    title: str
    content: str
    created_at: Moment
    updated_at: Moment


class PostQuery(PageQuery):
    author_id: QueryId | None = None


@router.post("", status_code=201, response_model=PostOut, responses=problems(400, 413, 415))
def create_post(post: PostIn, session: CallerSessionDep, once: OnceDep) -> Any:
    """Write a post."""
    return once(session, post, PostOut, lambda: posts.create(session, post.model_dump()))


@router.get("", response_model=PageOut[PostOut])
def list_posts(
    session: CallerReadSessionDep, query: Annotated[PostQuery, Query()], links: LinksDep
) -> Page[Post]:
    """Posts with their authors, newest first: one's own, or for moderators and administrators all."""
    return page_of(session, posts.visible(author_id=query.author_id), posts.NEWEST_FIRST, query, links)


@router.get("/{post_id:row}", response_model=PostOut, responses=problems(404))
def read_post(post_id: Id, session: CallerReadSessionDep, response: Response) -> Post:
    """One post."""
    return tagged(response, _found(_visible(session, post_id)))


@router.patch("/{post_id:row}", response_model=PostOut, responses=CONDITIONAL | problems(403, 404, 413, 415))
def change_post(
    post_id: Id, change: PostChange, session: CallerSessionDep, versions: VersionsDep, response: Response
) -> Post:
    """Change the fields that are sent, of a post of one's own; 403 for moderators on another's."""
    values = change.model_dump(exclude_unset=True) or {"title": Post.title}
    post = posts.change(session, post_id, values, versions)
    if post is None and _visible(session, post_id):
        require_unchanged(session, versions, posts.own().where(Post.id == post_id))
        raise Refusal(403, "not-yours", "A post is its author's to change.")
    return tagged(response, _found(post))


@router.delete(
    "/{post_id:row}", status_code=204, response_class=Response, responses=CONDITIONAL | problems(404)
)
def delete_post(post_id: Id, session: CallerSessionDep, versions: VersionsDep) -> None:
    """Delete a post: one's own, or for moderators and administrators any."""
    if not posts.remove(session, post_id, versions):
        require_unchanged(session, versions, posts.visible().where(Post.id == post_id))
        _found(None)


def _visible(session: Session, post_id: int) -> Post | None:
    return session.scalar(posts.visible().where(Post.id == post_id))


def _found(post: Post | None) -> Post:
    if post is None:
        raise HTTPException(404, "There is no such post.")
    return post
