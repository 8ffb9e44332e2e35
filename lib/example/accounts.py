"""Accounts, and transfers between them: one effect each, however often they are asked for."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Select, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lib.example.models import Account, Transfer
from lib.example.pagination import Order
from lib.onetrip.session.batch import batch
from lib.onetrip.session.session import LAST

OLDEST_FIRST = Order("id", Account.id, Account.id)
NEWEST_TRANSFER_FIRST = Order("id", Transfer.id, Transfer.id, descending=True)


class InsufficientFundsError(Exception):
    """The account has less than would be taken from it."""


class KeyReusedError(Exception):
    """The idempotency key belongs to another transfer."""


def of(owner_id: int) -> Select[Account]:
    """The owner's accounts."""
    return select(Account).where(Account.owner_id == owner_id)


def remove(session: Session, owner_id: int, account_id: int) -> bool:
    """Delete an empty account of the owner's as the unit's last statement; whether there was one."""
    where = (Account.id == account_id, Account.owner_id == owner_id, Account.balance == 0)
    statement = delete(Account).where(*where).returning(Account.id)
    return session.scalar(statement, execution_options=LAST) is not None


def transfer(  # noqa: PLR0913  (what a transfer is)
    session: Session, *, owner_id: int, from_id: int, to_id: int, amount: Decimal, key: str | None
) -> Transfer:
    """Move money as the end of the unit; for a key that was used before, the transfer that it made then.

    Whoever comes second with a key waits in the first statement until the first has committed.
    """
    values = {"owner_id": owner_id, "from_account_id": from_id, "to_account_id": to_id, "amount": amount}
    made = _claimed(session, values, key)
    if made is None:
        earlier = session.scalars(
            select(Transfer).where(Transfer.owner_id == owner_id, Transfer.idempotency_key == key)
        ).one()
        if any(getattr(earlier, name) != value for name, value in values.items()):
            raise KeyReusedError
        return earlier
    both = Account.id.in_((from_id, to_id))
    # One order for all transfers, so that no two wait for each other; and a lock that the check of the
    # new transfer's foreign keys, which holds both rows by now, does not stand in the way of.
    locked = session.execute(
        select(Account.id, Account.balance).where(both).order_by(Account.id).with_for_update(key_share=True)
    )
    balances = {row.id: row.balance for row in locked}
    if balances[from_id] < amount:
        raise InsufficientFundsError
    difference = case((Account.id == from_id, -amount), else_=amount)
    moved = update(Account).where(both).values(balance=Account.balance + difference, updated_at=func.now())
    session.execute(moved, execution_options={**LAST, "synchronize_session": False})
    return made


def _claimed(session: Session, values: dict[str, object], key: str | None) -> Transfer | None:
    """The new transfer, not yet carried out; None if there is one of this key."""
    claim = (
        insert(Transfer)
        .values(**values, idempotency_key=key)
        .on_conflict_do_nothing(index_elements=[Transfer.owner_id, Transfer.idempotency_key])
        .returning(Transfer)
    )
    # Until this transaction ends, the account that is paid into can be seen and changed, whosever it is.
    shown = select(func.set_config("app.paid_account", str(values["to_account_id"]), True))
    claimed, _ = batch(session, claim, shown)
    return claimed.scalar_one_or_none()
