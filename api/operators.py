"""Whether the caller runs this service."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, Request

from lib.settings import Settings


async def get_settings(request: Request) -> Settings:
    """The settings that the application was made with."""
    settings: Settings = request.app.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(get_settings)]


async def is_operator(request: Request, settings: SettingsDep) -> bool:
    """Whether the caller may see operational details: anyone outside production, else by `OPS_TOKEN`."""
    if not settings.is_production:
        return True
    if settings.ops_token is None:
        return False
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    wanted = settings.ops_token.get_secret_value()
    return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), wanted.encode())


OperatorDep = Annotated[bool, Depends(is_operator)]
