"""Accounts: money that one has."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field

from api.caller import CallerReadSessionDep, CallerSessionDep
from api.routes.idempotency import OnceDep
from api.routes.pagination import LinksDep, PageOut, PageQuery, page_of
from api.routes.route import Route
from api.routes.types import Balance, Id, Input, Moment, Money, Name, Output
from api.routes.versions import CONDITIONAL, VersionsDep, require_unchanged, tagged
from lib.example import accounts
from lib.example.pagination import Page
from lib.example.tables.money import Account
from lib.onetrip.fastapi.problem_details import problems

router = APIRouter(
    prefix="/accounts", tags=["accounts"], route_class=Route, responses=problems(401, 422, 503, 504)
)


class AccountIn(Input):
    name: Name
    balance: Annotated[Balance, Field(description="sample money that is paid in at the start")] = Decimal(
        "0.00"
    )


class AccountChange(Input):
    name: Name


class AccountOut(Output):
    id: int
    owner_id: int
    name: str
    balance: Money
    created_at: Moment
    updated_at: Moment


@router.post("", status_code=201, response_model=AccountOut, responses=problems(400, 413, 415))
def open_account(account: AccountIn, session: CallerSessionDep, once: OnceDep) -> Any:
    """Open an account."""
    return once(
        session, account, AccountOut, lambda: accounts.create(session, account.model_dump(), once.last)
    )


@router.get("", response_model=PageOut[AccountOut])
def list_accounts(
    session: CallerReadSessionDep, query: Annotated[PageQuery, Query()], links: LinksDep
) -> Page[Account]:
    """Accounts in the order in which they were opened."""
    return page_of(session, accounts.own(), accounts.OLDEST_FIRST, query, links)


@router.get("/{account_id:row}", response_model=AccountOut, responses=problems(404))
def read_account(account_id: Id, session: CallerReadSessionDep, response: Response) -> Account:
    """One account with its balance."""
    return tagged(response, _found(session.scalar(accounts.own().where(Account.id == account_id))))


@router.patch("/{account_id:row}", response_model=AccountOut, responses=CONDITIONAL | problems(404, 413, 415))
def rename_account(
    account_id: Id,
    change: AccountChange,
    session: CallerSessionDep,
    versions: VersionsDep,
    response: Response,
) -> Account:
    """Give an account another name; its balance changes by transfers only."""
    account = accounts.rename(session, account_id, change.name, versions)
    if account is None:
        require_unchanged(session, versions, accounts.own().where(Account.id == account_id))
    return tagged(response, _found(account))


@router.delete(
    "/{account_id:row}",
    status_code=204,
    response_class=Response,
    responses=CONDITIONAL | problems(404, 409),
)
def close_account(account_id: Id, session: CallerSessionDep, versions: VersionsDep) -> None:
    """Close an account; 409 while it holds money. Its transfers stay with the other side."""
    if not accounts.remove(session, account_id, versions):
        require_unchanged(session, versions, accounts.own().where(Account.id == account_id))
        _found(None)


def _found(account: Account | None) -> Account:
    if account is None:
        raise HTTPException(404, "There is no such account.")
    return account
