"""Sample money."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, String, text
from sqlalchemy.orm import Mapped, mapped_column

from lib.example.columns import CreatedAt, Row, Versioned
from lib.example.tables.people import User, owner
from lib.models import Base


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

    owner_id: Mapped[int | None] = mapped_column(ForeignKey(User.id, ondelete="SET NULL"))
    payee_id: Mapped[int | None] = mapped_column(ForeignKey(User.id, ondelete="SET NULL"))
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
