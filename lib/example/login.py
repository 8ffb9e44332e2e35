"""Logging in and registering, by the database's functions: none of them shows a hash to this role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Float, String, column, func, select
from sqlalchemy.orm import Session

from lib.example.columns import Role
from lib.example.tables.people import User
from lib.onetrip.session.session import LAST


def begin(session: Session, name: str, network: str) -> tuple[float | None, str | None]:
    """Count a try before its password is looked at; the seconds until the next, or the salt of the hash.

    Both are None for an unknown name that may be tried.
    """
    return _begun(session, func.begin_login(name, network))


def finish(session: Session, name: str, network: str, computed: str, renewed: str | None) -> int | None:
    """The id of the active person whose hash was computed, now kept as `renewed` if given; else None."""
    statement = select(func.finish_login(name, network, computed, renewed))
    found: int | None = session.scalar(statement, execution_options=LAST)
    return found


def begin_registration(session: Session, network: str) -> float | None:
    """Count a registration; the seconds until this network may try the next, None if it may this one."""
    wait: float | None = session.scalar(select(func.begin_registration(network)), execution_options=LAST)
    return wait


def register(session: Session, values: Mapping[str, Any]) -> User:
    """Add a person as the unit's last statement; with this role that is the only way to add one."""
    added = func.add_user(values["username"], values["email"], values["password_hash"]).table_valued(
        "id", "created_at"
    )
    row = session.execute(select(added.c.id, added.c.created_at), execution_options=LAST).one()
    shown = {name: values[name] for name in ("username", "email")}
    return User(**shown, id=row.id, created_at=row.created_at, role=Role.USER, is_active=True, version=1)


def begin_change(session: Session) -> tuple[float | None, str | None]:
    """Count a try to change the caller's password; the seconds until the next, or the salt of the hash."""
    return _begun(session, func.begin_password_change())


def change_password(session: Session, user_id: Any, computed: str | None, new_hash: str) -> bool:
    """Keep another hash: for oneself with the hash of the old password, for others as an administrator."""
    statement = select(func.change_password(user_id, computed, new_hash))
    return bool(session.scalar(statement, execution_options=LAST))


def _begun(session: Session, function: Any) -> tuple[float | None, str | None]:
    begun = function.table_valued(column("wait_seconds", Float), column("salted", String))
    row = session.execute(select(begun.c.wait_seconds, begun.c.salted), execution_options=LAST).one()
    return row.wait_seconds, row.salted
