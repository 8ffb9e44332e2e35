"""ETags: a row's version, and changes that are made only if the client has seen the newest."""

from __future__ import annotations

import re
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Request, Response
from sqlalchemy import Select
from sqlalchemy.orm import Session

from lib.onetrip.fastapi.problem_details import Refusal, problems

# `If-Match` is optional, and there is no 428: a PATCH changes the fields that are sent and no other, so that
# clients who change different fields lose nothing. Who changes what they have read sends the tag of it.
_TAG = re.compile(r'"([0-9]{1,9})"')


class _Row(Protocol):
    version: Any


R = TypeVar("R", bound=_Row)


async def get_versions(
    request: Request,
    if_match: Annotated[
        str,
        Header(
            max_length=1000,
            description="the ETag of what was read: nothing is changed if it is another by now (412)",
            examples=['"1"'],
        ),
    ] = "*",
) -> frozenset[int] | None:
    """The versions that `If-Match` accepts; None if it accepts any."""
    # Several lines are one list.
    if_match = ",".join(request.headers.getlist("if-match")) or if_match
    if if_match.strip() == "*":
        return None
    # The comparison is strong: a weak tag equals none, nor does what is no tag of ours.
    tags = (part.strip() for part in if_match.split(","))
    return frozenset(int(found[1]) for tag in tags if (found := _TAG.fullmatch(tag)))


VersionsDep = Annotated[frozenset[int] | None, Depends(get_versions)]
# The error responses of a route that takes `If-Match`.
CONDITIONAL = problems(412)


def tagged(response: Response, row: R) -> R:
    """The row, whose version is the response's ETag."""
    response.headers["ETag"] = f'"{row.version}"'
    return row


def require_unchanged(session: Session, versions: frozenset[int] | None, statement: Select[Any]) -> None:
    """412 if nothing was changed because the row, which `statement` finds, has another version."""
    if versions is not None and session.scalar(statement) is not None:
        raise Refusal(412, "precondition-failed", "This has changed since it was read. Read it again.")
