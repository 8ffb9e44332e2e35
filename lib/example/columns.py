"""Columns and types that several of the example's tables share."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, DateTime, Enum, Identity, func, text
from sqlalchemy.orm import Mapped, mapped_column

# The caller, whom the transaction names. Statements say it, though the tables' policies would do.
CALLER = func.caller_id(type_=BigInteger())


class Role(StrEnum):
    """The rights of a user."""

    ADMIN = "admin"
    USER = "user"
    MODERATOR = "moderator"


class Status(StrEnum):
    """The progress of a task."""

    TODO = "todo"
    IN_PROGRESS = "in_progress"
    DONE = "done"


class Priority(StrEnum):
    """The priority of a task, in rising order: PostgreSQL sorts by it."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


def enum(kind: type[StrEnum]) -> Enum:
    """A column of one of these values, under their own names."""
    return Enum(kind, name=kind.__name__.lower(), values_callable=lambda members: [m.value for m in members])


class Row:
    """A row with a number of its own."""

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True, sort_order=-1)


class CreatedAt:
    """A row that knows when it was made."""

    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Versioned:
    """A row that counts its changes; the database does, and notes when the last one was."""

    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    version: Mapped[int] = mapped_column(server_default=text("1"))
