"""Accounts: money that one has."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field
from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert

from api.caller import CallerDep, CallerReadSessionDep, CallerSessionDep
from api.routes.pagination import PageOut, PageQuery, page_of
from api.routes.types import Balance, Id, Input, Name, Output
from lib.example import accounts
from lib.example.models import Account
from lib.example.pagination import Page
from lib.onetrip.fastapi.problem_details import problems
from lib.onetrip.session.session import LAST

router = APIRouter(prefix="/accounts", tags=["accounts"], responses=problems(401, 422, 503, 504))


class AccountIn(Input):
    name: Name
    balance: Annotated[Balance, Field(description="what is paid in at the start")] = Decimal("0.00")


class AccountChange(Input):
    name: Name


class AccountOut(Output):
    id: int
    owner_id: int
    name: str
    balance: Decimal
    created_at: datetime
    updated_at: datetime


@router.post("", status_code=201, response_model=AccountOut, responses=problems(413))
def open_account(
    account: AccountIn, session: CallerSessionDep, caller: CallerDep, response: Response
) -> Account:
    """Open an account."""
    statement = insert(Account).values(owner_id=caller.id, **account.model_dump()).returning(Account)
    row = session.scalars(statement, execution_options=LAST).one()
    response.headers["Location"] = f"/api/v1/accounts/{row.id}"
    return row


@router.get("", response_model=PageOut[AccountOut])
def list_accounts(
    session: CallerReadSessionDep, caller: CallerDep, query: Annotated[PageQuery, Query()]
) -> Page[Account]:
    """Accounts in the order in which they were opened."""
    return page_of(session, accounts.of(caller.id), accounts.OLDEST_FIRST, query)


@router.get("/{account_id:row}", response_model=AccountOut, responses=problems(404))
def read_account(account_id: Id, session: CallerReadSessionDep, caller: CallerDep) -> Account:
    """One account with its balance."""
    return _found(session.scalar(accounts.of(caller.id).where(Account.id == account_id)))


@router.patch("/{account_id:row}", response_model=AccountOut, responses=problems(404, 413))
def rename_account(
    account_id: Id, change: AccountChange, session: CallerSessionDep, caller: CallerDep
) -> Account:
    """Give an account another name; its balance changes by transfers only."""
    where = (Account.id == account_id, Account.owner_id == caller.id)
    statement = update(Account).where(*where).values(name=change.name).returning(Account)
    return _found(session.scalar(statement, execution_options=LAST))


@router.delete("/{account_id:row}", status_code=204, responses=problems(404, 409))
def close_account(account_id: Id, session: CallerSessionDep, caller: CallerDep) -> None:
    """Delete an account; 409 while it holds money, or once money went through it."""
    if not accounts.remove(session, caller.id, account_id):
        _found(session.scalar(accounts.of(caller.id).where(Account.id == account_id)))
        raise HTTPException(409, "There is money in this account.")


def _found(account: Account | None) -> Account:
    if account is None:
        raise HTTPException(404, "There is no such account.")
    return account
