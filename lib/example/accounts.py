"""Accounts, and transfers between them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Numeric, Select, cast, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lib.example.columns import CALLER
from lib.example.pagination import Order
from lib.example.tables.money import Account, Transfer
from lib.example.versions import Versions, unchanged
from lib.onetrip.session.session import LAST, Options

OLDEST_FIRST = Order("created_at", Account.created_at, Account.id)
NEWEST_TRANSFER_FIRST = Order("id", Transfer.id, Transfer.id, descending=True)


def own() -> Select[Account]:
    """The caller's accounts."""
    return select(Account).where(Account.owner_id == CALLER)


def create(session: Session, values: Mapping[str, Any], options: Options) -> Account:
    """Open an account of the caller's."""
    return session.scalars(
        insert(Account).values(**values).returning(Account), execution_options=options
    ).one()


def rename(session: Session, account_id: int, name: str, versions: Versions = None) -> Account | None:
    """Give an account of the caller's another name as the unit's last statement; None without one."""
    where = (Account.id == account_id, Account.owner_id == CALLER, *unchanged(Account, versions))
    statement = update(Account).where(*where).values(name=name).returning(Account)
    return session.scalar(statement, execution_options=LAST)


def remove(session: Session, account_id: int, versions: Versions = None) -> bool:
    """Close an account of the caller's as the unit's last statement; the other side keeps its transfers."""
    where = (Account.id == account_id, Account.owner_id == CALLER, *unchanged(Account, versions))
    statement = delete(Account).where(*where).returning(Account.id)
    return session.scalar(statement, execution_options=LAST) is not None


def transfer(
    session: Session, from_account_id: int, to_account_id: int, amount: Decimal, options: Options
) -> Transfer:
    """Move money in one round trip, by the only function that changes a balance."""
    moved = func.make_transfer(from_account_id, to_account_id, cast(amount, Numeric))
    made = moved.table_valued(*Transfer.__table__.columns)
    statement = select(Transfer).from_statement(select(made))
    transfer: Transfer = session.scalars(statement, execution_options=options).one()
    return transfer


def transfers() -> Select[Transfer]:
    """The transfers from and to the caller's accounts."""
    return select(Transfer).where(or_(Transfer.owner_id == CALLER, Transfer.payee_id == CALLER))
