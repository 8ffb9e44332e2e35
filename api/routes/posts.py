"""Posts: an author writes, reads and changes their own; moderators read all and may delete them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field, StringConstraints
from sqlalchemy.orm import Session

from api.caller import CallerDep, CallerReadSessionDep, CallerSessionDep
from api.routes.pagination import PageOut, PageQuery, page_of
from api.routes.types import NO_NUL, Id, Input, Output, QueryId, Title
from lib.example import posts
from lib.example.models import Post
from lib.example.pagination import Page
from lib.onetrip.fastapi.problem_details import problems

router = APIRouter(prefix="/posts", tags=["posts"], responses=problems(401, 422, 503, 504))

Content = Annotated[str, StringConstraints(min_length=1, max_length=50_000, pattern=NO_NUL)]


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
    created_at: datetime
    updated_at: datetime


class PostQuery(PageQuery):
    author_id: QueryId | None = None


@router.post("", status_code=201, response_model=PostOut, responses=problems(413))
def create_post(post: PostIn, session: CallerSessionDep, caller: CallerDep, response: Response) -> Post:
    """Write a post."""
    row = posts.create(session, caller.id, post.model_dump())
    response.headers["Location"] = f"/api/v1/posts/{row.id}"
    return row


@router.get("", response_model=PageOut[PostOut])
def list_posts(session: CallerReadSessionDep, query: Annotated[PostQuery, Query()]) -> Page[Post]:
    """Posts with their authors, newest first: one's own, or for moderators and administrators all."""
    return page_of(session, posts.visible(author_id=query.author_id), posts.NEWEST_FIRST, query)


@router.get("/{post_id:row}", response_model=PostOut, responses=problems(404))
def read_post(post_id: Id, session: CallerReadSessionDep) -> Post:
    """One post."""
    return _found(_visible(session, post_id))


@router.patch("/{post_id:row}", response_model=PostOut, responses=problems(403, 404, 413))
def change_post(post_id: Id, change: PostChange, session: CallerSessionDep, caller: CallerDep) -> Post:
    """Change the fields that are sent, of a post of one's own; 403 for moderators on another's."""
    values = change.model_dump(exclude_unset=True)
    post = posts.change(session, caller.id, post_id, values) if values else _visible(session, post_id)
    if post is None and _visible(session, post_id):
        raise HTTPException(403, "A post is its author's to change.")
    return _found(post)


@router.delete("/{post_id:row}", status_code=204, responses=problems(404))
def delete_post(post_id: Id, session: CallerSessionDep) -> None:
    """Delete a post: one's own, or for moderators and administrators any."""
    if not posts.remove(session, post_id):
        raise HTTPException(404, "There is no such post.")


def _visible(session: Session, post_id: int) -> Post | None:
    return session.scalar(posts.visible().where(Post.id == post_id))


def _found(post: Post | None) -> Post:
    if post is None:
        raise HTTPException(404, "There is no such post.")
    return post
