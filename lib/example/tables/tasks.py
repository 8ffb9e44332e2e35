"""Things to do, and the words on them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, column_property, mapped_column

from lib.example.columns import CreatedAt, Priority, Row, Status, Versioned, enum
from lib.example.tables.people import owner
from lib.models import Base


class Tag(Row, Versioned, Base):
    """A word that a person puts on their tasks."""

    __tablename__ = "tags"

    owner_id: Mapped[int] = owner()
    name: Mapped[str] = mapped_column(String(50))

    __table_args__ = (
        CheckConstraint("char_length(name) >= 1", name="name_length"),
        Index("tags_owner_id_name_key", "owner_id", func.lower(text("name")), unique=True),
        # The targets of the links below.
        UniqueConstraint("id", "owner_id"),
    )


class TaskTag(Base):
    """Which tags a task has: both belong to the same person, whom the link names too."""

    __tablename__ = "task_tags"

    task_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tag_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, index=True)
    owner_id: Mapped[int] = mapped_column(BigInteger, server_default=text("caller_id()"))

    __table_args__ = (
        ForeignKeyConstraint(["task_id", "owner_id"], ["tasks.id", "tasks.owner_id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["tag_id", "owner_id"], ["tags.id", "tags.owner_id"], ondelete="CASCADE"),
    )


class Task(Row, CreatedAt, Versioned, Base):
    """Something a person means to do."""

    __tablename__ = "tasks"

    owner_id: Mapped[int] = owner()
    title: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(String(10_000), server_default="")
    status: Mapped[Status] = mapped_column(enum(Status), server_default=Status.TODO.value)
    priority: Mapped[Priority] = mapped_column(enum(Priority), server_default=Priority.MEDIUM.value)
    due_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    if TYPE_CHECKING:
        tags: list[str]

    __table_args__ = (
        CheckConstraint("char_length(title) >= 1", name="title_length"),
        CheckConstraint("(status = 'done') = (completed_at IS NOT NULL)", name="completed"),
        # Serves the owner's list, newest first, and its keyset pages.
        Index("tasks_owner_id_created_at_idx", "owner_id", "created_at", "id"),
        UniqueConstraint("id", "owner_id"),
    )


# Asked for with the task, in the same query; what is changed says so itself: `returning(Task, TAGS)`.
_names = (
    select(Tag.name)
    .join(TaskTag, TaskTag.tag_id == Tag.id)
    .where(TaskTag.task_id == Task.id)
    .order_by(func.lower(Tag.name))
)
TAGS = func.array(_names.correlate(Task).scalar_subquery(), type_=ARRAY(String))
Task.__mapper__.add_property("tags", column_property(TAGS))
