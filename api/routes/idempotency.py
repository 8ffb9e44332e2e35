"""Idempotency-Key: a request that is sent again has one effect, and gets the answer that it got first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, StringConstraints
from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.routes.versions import tagged
from lib.example.columns import CALLER
from lib.example.tables.idempotency import IdempotencyKey
from lib.onetrip.fastapi.problem_details import Refusal
from lib.onetrip.session.batch import batch
from lib.onetrip.session.session import LAST, Options

Key = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")] | None,
    Header(
        alias="Idempotency-Key",
        description="made up by the client for this request: sent again with it, nothing is done again. "
        "Kept for a day at least",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]
KEPT_HOURS = 24


class _Kept(NamedTuple):
    digest: bytes
    answer: str | None
    location: str | None


class Once:
    """Makes what a request asks for, once for each key of the caller's."""

    def __init__(self, request: Request, response: Response, key: str | None) -> None:
        self._path: str = request.scope["path"]
        self._response = response
        self._key = key

    @property
    def last(self) -> Options:
        """The options of the statement that makes it: the last of its unit, unless an answer is kept."""
        return LAST if self._key is None else {}

    def __call__(
        self,
        session: Session,
        asked: BaseModel,
        shown: type[BaseModel],
        make: Callable[[], Any],
    ) -> Any:
        """The row that `make` returns, or the answer that an earlier request of this key got."""
        if self._key is None:
            return self._made(make())
        digest = hashlib.sha256(f"{self._path} {asked.model_dump_json()}".encode()).digest()
        kept = _claimed(session, self._key, digest)
        if kept.digest != digest:
            raise Refusal(422, "key-reused", "This Idempotency-Key was used for another request.")
        if kept.answer is not None:
            return self._answer(kept.answer, kept.location, {"Idempotency-Replayed": "true"})
        row = self._made(make())
        answer, location = shown.model_validate(row).model_dump_json(), self._response.headers.get("location")
        keep = update(IdempotencyKey).where(
            IdempotencyKey.owner_id == CALLER, IdempotencyKey.key == self._key
        )
        session.execute(
            keep.values(answer=answer, location=location),
            execution_options={**LAST, "synchronize_session": False},
        )
        return self._answer(answer, location, {})

    def _made(self, row: Any) -> Any:
        """The row, with the headers that tell where it is."""
        if hasattr(row, "id"):
            self._response.headers["Location"] = f"{self._path}/{row.id}"
        return tagged(self._response, row) if hasattr(row, "version") else row

    def _answer(self, body: str, location: str | None, headers: dict[str, str]) -> Response:
        # Headers that the route set are not carried over to a response of its own.
        known = {name: value for name, value in self._response.headers.items() if name == "etag"}
        where = {"Location": location} if location else {}
        return Response(body, 201, {**known, **where, **headers}, "application/json")


def _claimed(session: Session, key: str, digest: bytes) -> _Kept:
    """The key as it is kept, now by this request if by none before.

    A second request of the key waits here until the first has committed, and then sees its answer.
    """
    claim = (
        insert(IdempotencyKey)
        .values(key=key, digest=digest)
        .on_conflict_do_update(
            index_elements=[IdempotencyKey.owner_id, IdempotencyKey.key], set_={"key": key}
        )
        .returning(IdempotencyKey.digest, IdempotencyKey.answer, IdempotencyKey.location)
    )
    age = func.now() - func.make_interval(0, 0, 0, 0, KEPT_HOURS)
    old = delete(IdempotencyKey).where(IdempotencyKey.owner_id == CALLER, IdempotencyKey.created_at < age)
    _, claimed = batch(session, old.execution_options(synchronize_session=False), claim)
    return _Kept._make(claimed.one())


async def get_once(request: Request, response: Response, key: Key = None) -> Once:
    """The key of the request, if there is one; in quotes or not, it is the same."""
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise Refusal(400, "invalid-idempotency-key", "Send one Idempotency-Key.")
    return Once(request, response, key.strip('"') or None if key else None)


OnceDep = Annotated[Once, Depends(get_once)]
