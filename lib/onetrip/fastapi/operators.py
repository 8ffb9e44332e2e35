"""Operators: callers that run this service."""

from __future__ import annotations

import hmac
from base64 import b64decode
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from ..settings.settings import Settings
from .services import services_of


async def get_settings(request: Request) -> Settings:
    """The settings that the application was made with."""
    return services_of(request).settings


SettingsDep = Annotated[Settings, Depends(get_settings)]


def may_see(settings: Settings, authorization: str) -> bool:
    """True if this header permits operational details: in production by `OPS_TOKEN`, elsewhere always.

    The token is a bearer's, or the password of any user, which is how a browser asks for one.
    """
    if not settings.is_production:
        return True
    if settings.ops_token is None:
        return False
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        given = _password(given)
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), settings.ops_token.get_secret_value().encode())


def _password(credentials: str) -> str:
    try:
        return b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


async def is_operator(request: Request, settings: SettingsDep) -> bool:
    """True if the caller may see operational details."""
    return may_see(settings, request.headers.get("authorization", ""))


OperatorDep = Annotated[bool, Depends(is_operator)]


async def require_operator(settings: SettingsDep, *, operator: OperatorDep) -> None:
    """Refuse all other callers; without a token in production there is nothing to see."""
    if operator:
        return
    if settings.ops_token is None:
        raise HTTPException(404)
    raise HTTPException(401, headers={"WWW-Authenticate": 'Basic realm="operators", charset="UTF-8"'})


OPERATORS_ONLY = Depends(require_operator)
