"""Logging in: a few tries for each name, counted where all instances see it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Float, case, cast, delete, extract, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lib.example.models import LoginAttempts, User
from lib.onetrip.session.session import LAST

MAX_ATTEMPTS = 10
WINDOW_SECONDS = 900
# Old counts are cleared by whoever comes, some at a time.
_CLEARED_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try that was counted, and who it is for if there is such a person."""

    user_id: int | None
    password_hash: str | None
    is_active: bool
    # Until the next try is looked at; None if this one is.
    wait_seconds: float | None


def attempt(session: Session, username: str) -> Attempt:
    """Count a try before its password is looked at: however many come together, few are."""
    window = func.make_interval(0, 0, 0, 0, 0, 0, WINDOW_SECONDS)
    over = LoginAttempts.since < func.now() - window
    old = (
        select(LoginAttempts.name_digest)
        .where(over, LoginAttempts.name_digest != _digest(username))
        .order_by(LoginAttempts.since)
        .limit(_CLEARED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    cleared = delete(LoginAttempts).where(LoginAttempts.name_digest.in_(old)).cte("cleared")
    counted = (
        insert(LoginAttempts)
        .values(name_digest=_digest(username), count=1, since=func.now())
        .on_conflict_do_update(
            index_elements=[LoginAttempts.name_digest],
            set_={
                "count": case((over, 1), else_=LoginAttempts.count + 1),
                "since": case((over, func.now()), else_=LoginAttempts.since),
            },
        )
        .returning(LoginAttempts.count, LoginAttempts.since)
        .cte("counted")
    )
    wait = cast(extract("epoch", counted.c.since + window - func.now()), Float)
    statement = (
        select(counted.c.count, wait, User.id, User.password_hash, User.is_active)
        .select_from(counted)
        .outerjoin(User, func.lower(User.username) == func.lower(username))
        .add_cte(cleared)
    )
    count, seconds, user_id, kept, is_active = session.execute(statement, execution_options=LAST).one()
    return Attempt(user_id, kept, bool(is_active), seconds if count > MAX_ATTEMPTS else None)


def succeeded(session: Session, username: str, user_id: int, password_hash: str | None) -> None:
    """Forget the tries, and keep the password's new hash if it has one."""
    if password_hash:
        session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))
    statement = delete(LoginAttempts).where(LoginAttempts.name_digest == _digest(username))
    session.execute(statement, execution_options=LAST)


def _digest(username: str) -> ColumnElement[str]:
    """A name of any length, in a few bytes; the database's `lower`, which finds the user too, spells it."""
    return func.encode(func.sha256(func.convert_to(func.lower(username), "UTF8")), "hex")
