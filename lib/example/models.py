"""The example's tables."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

from lib.example.columns import CreatedAt, Priority, Role, Row, Status, Versioned, enum, owner
from lib.models import Base

__all__ = [
    "TAGS",
    "Account",
    "Attempts",
    "Audit",
    "Base",
    "IdempotencyKey",
    "Post",
    "Priority",
    "Role",
    "Status",
    "Tag",
    "Task",
    "TaskTag",
    "Transfer",
    "User",
]


class User(Row, CreatedAt, Versioned, Base):
    """A person with an account; without a password, one who cannot log in."""

    __tablename__ = "users"

    username: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(254))
    # No role but the owner's may read it: the functions that log people in compare it.
    password_hash: Mapped[str | None] = mapped_column(String(255), deferred=True, deferred_raiseload=True)
    role: Mapped[Role] = mapped_column(enum(Role), server_default=Role.USER.value)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    subject: Mapped[str | None] = mapped_column(String(255), unique=True)
    tokens_since: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), deferred=True, deferred_raiseload=True
    )

    __table_args__ = (
        CheckConstraint("char_length(username) >= 3", name="username_length"),
        # One account for each, however it is spelt.
        Index("users_username_key", func.lower(text("username")), unique=True),
        Index("users_email_key", func.lower(text("email")), unique=True),
    )


class Attempts(Base):
    """The tries of one kind (a name from a network, say), counted since a moment."""

    __tablename__ = "attempts"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    count: Mapped[int]
    since: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


class Audit(Row, Base):
    """A record of who did what to whom, from where; the database's functions and triggers write it."""

    __tablename__ = "audit"

    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    action: Mapped[str] = mapped_column(String(50))
    actor_id: Mapped[int | None] = mapped_column(BigInteger)
    target_id: Mapped[int | None] = mapped_column(BigInteger)
    network: Mapped[str | None] = mapped_column(String(50))
    detail: Mapped[dict[str, Any] | None] = mapped_column(JSONB)

    __table_args__ = (Index("audit_target_id_idx", "target_id", "at"),)


class IdempotencyKey(CreatedAt, Base):
    """A key that a client made up for a request, and the answer that the request got."""

    __tablename__ = "idempotency_keys"

    owner_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, server_default=text("caller_id()")
    )
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[str | None] = mapped_column(Text)
    location: Mapped[str | None] = mapped_column(String(200))


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


class Account(CreatedAt, Versioned, Base):
    """Money that a person has: never less than nothing. Its id can be neither guessed nor counted."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, server_default=text("random_id()"), sort_order=-1
    )
    owner_id: Mapped[int] = owner()
    name: Mapped[str] = mapped_column(String(100))
    # More than all transfers together: no transfer can fill another user's account.
    balance: Mapped[Decimal] = mapped_column(Numeric(30, 2), server_default=text("0"))

    __table_args__ = (
        CheckConstraint("char_length(name) >= 1", name="name_length"),
        CheckConstraint("balance >= 0", name="balance"),
        Index("accounts_owner_id_idx", "owner_id", "created_at", "id"),
    )


class Transfer(Row, CreatedAt, Base):
    """Money that went from an account of its owner to any other; a side that is gone has no name."""

    __tablename__ = "transfers"

    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    payee_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    from_account_id: Mapped[int | None] = mapped_column(
        ForeignKey("accounts.id", ondelete="SET NULL"), index=True
    )
    to_account_id: Mapped[int | None] = mapped_column(
        ForeignKey("accounts.id", ondelete="SET NULL"), index=True
    )
    amount: Mapped[Decimal] = mapped_column(Numeric(15, 2))

    __table_args__ = (
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("from_account_id <> to_account_id", name="accounts"),
        # From both sides a person's transfers are found, newest first.
        Index("transfers_owner_id_idx", "owner_id", "id"),
        Index("transfers_payee_id_idx", "payee_id", "id"),
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
