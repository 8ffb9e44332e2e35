"""Texts that people write."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lib.example.columns import CreatedAt, Row, Versioned
from lib.example.tables.people import User, owner
from lib.models import Base


class Post(Row, CreatedAt, Versioned, Base):
    """Something that a person wrote."""

    __tablename__ = "posts"

    author_id: Mapped[int] = owner()
    title: Mapped[str] = mapped_column(String(200))
    content: Mapped[str] = mapped_column(String(50_000))
    # Said with each query: one that forgets fails, rather than asking for each author by itself.
    author: Mapped[User] = relationship(lazy="raise")

    __table_args__ = (
        CheckConstraint("char_length(title) >= 1", name="title_length"),
        CheckConstraint("char_length(content) >= 1", name="content_length"),
        Index("posts_author_id_created_at_idx", "author_id", "created_at", "id"),
        Index("posts_created_at_idx", "created_at", "id"),
    )
