"""Transfers: money from an account of one's own to any other."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Response
from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import select

from api.caller import CallerDep, CallerReadSessionDep, CallerSessionDep
from api.routes.pagination import PageOut, PageQuery, page_of
from api.routes.types import Amount, Id, Input, Output, Reference
from lib.example import accounts
from lib.example.models import Transfer
from lib.example.pagination import Page
from lib.onetrip.fastapi.problem_details import problems

router = APIRouter(prefix="/transfers", tags=["transfers"], responses=problems(401, 422, 503, 504))

Key = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")] | None,
    Header(
        alias="Idempotency-Key",
        description="made up by the client for this transfer: sent again with it, nothing is done again",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]


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
    from_account_id: int
    to_account_id: int
    amount: Decimal
    created_at: datetime


@router.post("", status_code=201, response_model=TransferOut, responses=problems(409, 413))
def make_transfer(
    asked: TransferIn, session: CallerSessionDep, caller: CallerDep, response: Response, key: Key = None
) -> Transfer:
    """Move money, once for each `Idempotency-Key`; 409 without enough of it.

    The same key and body get the same answer; the same key with another body is 422, as is an account
    that does not exist, or not as the caller's to take from.
    """
    try:
        made = accounts.transfer(
            session,
            owner_id=caller.id,
            from_id=asked.from_account_id,
            to_id=asked.to_account_id,
            amount=asked.amount,
            key=key,
        )
    except accounts.InsufficientFundsError:
        raise HTTPException(409, "There is not enough money in the account.") from None
    except accounts.KeyReusedError:
        raise HTTPException(422, "This Idempotency-Key was used for another transfer.") from None
    response.headers["Location"] = f"/api/v1/transfers/{made.id}"
    return made


@router.get("", response_model=PageOut[TransferOut])
def list_transfers(session: CallerReadSessionDep, query: Annotated[PageQuery, Query()]) -> Page[Transfer]:
    """Transfers from and to one's accounts, newest first."""
    return page_of(session, select(Transfer), accounts.NEWEST_TRANSFER_FIRST, query)


@router.get("/{transfer_id:row}", response_model=TransferOut, responses=problems(404))
def read_transfer(transfer_id: Id, session: CallerReadSessionDep) -> Transfer:
    """One transfer from or to an account of one's own."""
    transfer = session.get(Transfer, transfer_id)
    if transfer is None:
        raise HTTPException(404, "There is no such transfer.")
    return transfer
