"""Tables for the package's tests: authors and their books."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Enum, ForeignKey, Identity, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NAMES = "authors, books"
# The mark of their migration.
REVISIONS = ("0001",)


class Base(DeclarativeBase):
    """The tables' metadata."""


class Genre(StrEnum):
    """A type of the database's own."""

    ESSAY = "essay"
    NOVEL = "novel"


def _values(genres: type[Genre]) -> list[str]:
    return [genre.value for genre in genres]


class Author(Base):
    """A row with two texts that no other has, a check, columns with defaults of the server's."""

    __tablename__ = "authors"
    __table_args__ = (CheckConstraint("char_length(name) >= 3", name="name_length"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)
    role: Mapped[str] = mapped_column(server_default=text("'writer'"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    """A row that refers to an author."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    author_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("authors.id", ondelete="CASCADE"), index=True
    )
    title: Mapped[str] = mapped_column(String(200))
    summary: Mapped[str] = mapped_column(server_default=text("''"))
    genre: Mapped[Genre] = mapped_column(
        Enum(Genre, name="genre", values_callable=lambda genres: [genre.value for genre in genres]),
        server_default=text("'essay'"),
    )
    author: Mapped[Author] = relationship(back_populates="books")
