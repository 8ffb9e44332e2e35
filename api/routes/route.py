"""The route class of the example: a body of another media type is refused before it is read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute

from lib.onetrip.fastapi.problem_details import Refusal

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(APIRoute):
    """A route whose body, if it has one, is JSON."""

    media_types: ClassVar[tuple[str, ...]] = ("application/json",)

    def get_route_handler(self) -> Handler:
        handle: Handler = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def checked(request: Request) -> Response:
            _require_media_type(request, self.media_types)
            return await handle(request)

        return checked


class FormRoute(Route):
    """A route whose body is a form."""

    media_types = ("application/x-www-form-urlencoded", "multipart/form-data")


def _require_media_type(request: Request, media_types: tuple[str, ...]) -> None:
    headers = request.headers
    if headers.get("content-encoding", "identity").lower() != "identity":
        detail = "Send the body as it is, without a Content-Encoding."
        raise Refusal(415, "unsupported-encoding", detail, {"Accept-Encoding": "identity"})
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and given not in media_types:
        detail = f"Send the body as {' or '.join(media_types)}, and say so in Content-Type."
        name = "Accept-Patch" if request.method == "PATCH" else "Accept-Post"
        raise Refusal(415, "unsupported-media-type", detail, {name: ", ".join(media_types)})
