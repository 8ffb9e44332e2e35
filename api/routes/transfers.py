"""Transfers: money from an account of one's own to any other."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from api.caller import CallerReadSessionDep, CallerSessionDep
from api.routes.idempotency import OnceDep
from api.routes.pagination import LinksDep, PageOut, PageQuery, page_of
from api.routes.route import Route
from api.routes.types import Amount, Id, Input, Moment, Money, Output, Reference
from lib.example import accounts
from lib.example.pagination import Page
from lib.example.tables.money import Transfer
from lib.onetrip.fastapi.problem_details import problems

router = APIRouter(
    prefix="/transfers", tags=["transfers"], route_class=Route, responses=problems(401, 422, 503, 504)
)


class TransferIn(Input):
    from_account_id: Reference
    to_account_id: Annotated[Reference, Field(examples=[2])]
    amount: Amount

    @model_validator(mode="after")
    def _between_two(self) -> TransferIn:
        if self.from_account_id == self.to_account_id:
            raise PydanticCustomError("same_account", "Use two different accounts")
        return self


class TransferOut(Output):
    id: int
    from_account_id: int | None = Field(description="null once the account was closed")
    to_account_id: int | None = Field(description="null once the account was closed")
    amount: Money
    created_at: Moment


@router.post("", status_code=201, response_model=TransferOut, responses=problems(400, 409, 413, 415))
def make_transfer(asked: TransferIn, session: CallerSessionDep, once: OnceDep) -> Any:
    """Move money, once for each `Idempotency-Key`; 409 without enough of it.

    The same key and body get the same answer; the same key with another body is 422, as is an account
    that does not exist, or not as the caller's to take from.
    """
    parts = (asked.from_account_id, asked.to_account_id, asked.amount)
    return once(session, asked, TransferOut, lambda: accounts.transfer(session, *parts, once.last))


@router.get("", response_model=PageOut[TransferOut])
def list_transfers(
    session: CallerReadSessionDep, query: Annotated[PageQuery, Query()], links: LinksDep
) -> Page[Transfer]:
    """Transfers from and to one's accounts, newest first."""
    return page_of(session, accounts.transfers(), accounts.NEWEST_TRANSFER_FIRST, query, links)


@router.get("/{transfer_id:row}", response_model=TransferOut, responses=problems(404))
def read_transfer(transfer_id: Id, session: CallerReadSessionDep) -> Transfer:
    """One transfer from or to an account of one's own."""
    transfer = session.get(Transfer, transfer_id)
    if transfer is None:
        raise HTTPException(404, "There is no such transfer.")
    return transfer
