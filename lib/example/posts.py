"""Posts, with their authors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload, load_only
from sqlalchemy.orm.attributes import set_committed_value

from lib.example.columns import CALLER
from lib.example.pagination import Order
from lib.example.tables.people import User
from lib.example.tables.posts import Post
from lib.example.versions import Versions, unchanged
from lib.onetrip.session.batch import batch
from lib.onetrip.session.session import LAST

NEWEST_FIRST = Order("created_at", Post.created_at, Post.id, descending=True)
# In the same query, however many posts.
_WITH_AUTHOR = joinedload(Post.author, innerjoin=True).options(load_only(User.id, User.username))
_CALLER = select(User).options(load_only(User.id, User.username)).where(User.id == CALLER)


def visible(*, author_id: int | None = None) -> Select[Post]:
    """The posts that the caller may see, of one author if given."""
    statement = select(Post).options(_WITH_AUTHOR)
    return statement if author_id is None else statement.where(Post.author_id == author_id)


def own() -> Select[Post]:
    """The caller's own posts."""
    return visible().where(Post.author_id == CALLER)


def create(session: Session, values: Mapping[str, Any]) -> Post:
    """Store a post of the caller's; its author comes along in the same round trip."""
    posts, authors = batch(session, insert(Post).values(**values).returning(Post), _CALLER)
    return _by(posts.scalar_one(), authors.scalar_one())


def change(
    session: Session, post_id: int, values: Mapping[str, Any], versions: Versions = None
) -> Post | None:
    """Change a post of the caller's; None if there is none."""
    where = (Post.id == post_id, Post.author_id == CALLER, *unchanged(Post, versions))
    posts, authors = batch(session, update(Post).where(*where).values(values).returning(Post), _CALLER)
    post = posts.scalar_one_or_none()
    return post and _by(post, authors.scalar_one())


def remove(session: Session, post_id: int, versions: Versions = None) -> bool:
    """Delete a post as the unit's last statement; whether there was one that the caller may delete."""
    where = (Post.id == post_id, *unchanged(Post, versions))
    statement = delete(Post).where(*where).returning(Post.id)
    return session.scalar(statement, execution_options=LAST) is not None


def _by(post: Post, author: User) -> Post:
    set_committed_value(post, "author", author)
    return post
