"""HTTP events of AWS: their kind, and the prefix under which clients reach the application."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

Kind = Literal["load-balancer", "payload-2", "payload-1", "rest-api", "ping"]

# The whole response, as JSON: a load balancer takes 1 MB from a function, everything else 6 MB.
_MAX_RESPONSE_BYTES = {"load-balancer": 1_000_000}
_DEFAULT_MAX_RESPONSE_BYTES = 6 * 2**20
_MAX_KEYS_SHOWN = 8
_PARAMETER = re.compile(r"\{([^{}+]+)\+?\}")


class UnknownEventError(Exception):
    """The event is no HTTP request and no ping.

    Raised rather than answered: a queue that was connected by mistake must not take it for done.
    """


class Mount(NamedTuple):
    """The prefix of an event's path that is not the application's, and the prefix that clients see."""

    prefix: str
    root_path: str


def kind_of(event: object) -> Kind:
    """The kind of an event; raise `UnknownEventError` for one that is no request and no ping."""
    if isinstance(event, dict):
        context = event.get("requestContext")
        context = context if isinstance(context, dict) else {}
        if context and "httpMethod" in event:
            if "elb" in context:
                return "load-balancer"
            return "payload-1" if "version" in event else "rest-api"
        if isinstance(context.get("http"), dict) and event.get("version") == "2.0":
            return "payload-2"
        if event.get("source") == "aws.events" or "warm-up" in event:
            return "ping"
    raise UnknownEventError(
        "This function answers HTTP events (API Gateway, load balancer, Function URL) and pings such as "
        f'{{"warm-up": true}}. This event is neither: it is {_described(event)}. '
        "Was it meant for another function?"
    )


def max_response_bytes(kind: Kind) -> int:
    """The size of the largest response, as JSON, that is passed on for events of this kind."""
    return _MAX_RESPONSE_BYTES.get(kind, _DEFAULT_MAX_RESPONSE_BYTES)


def mount_of(kind: Kind, event: Mapping[str, Any]) -> Mount:
    """The application's prefixes, as far as API Gateway's stage, route and base path show them.

    A load balancer and a Function URL show none: a prefix in front of them is the setting ROOT_PATH.
    """
    context = event["requestContext"]
    if kind == "payload-2":
        stage = _leading_stage(context, context["http"]["path"])
        return Mount(stage, stage)
    if kind in {"payload-1", "rest-api"}:
        path = event.get("path") or "/"
        within = _path_within(event)
        prefix = _leading_stage(context, path) if within is None else _before(path, within)
        return Mount(prefix, _before(context.get("path") or path, path.removeprefix(prefix)))
    return Mount("", "")


def _leading_stage(context: Mapping[str, Any], path: str) -> str:
    """The stage's segment, where the path begins with it: HTTP APIs leave it there, REST APIs remove it."""
    prefix = f"/{context.get('stage')}"
    return prefix if prefix != "/$default" and f"{path}/".startswith(f"{prefix}/") else ""


def _path_within(event: Mapping[str, Any]) -> str | None:
    """The path by the route's template, such as `/{proxy+}`; None where the event does not show it."""
    template, values = event.get("resource") or "", event.get("pathParameters") or {}
    names = _PARAMETER.findall(template)
    if not template.startswith("/") or not values.keys() >= set(names):
        return None
    return _PARAMETER.sub(lambda name: str(values[name[1]]), template)


def _before(path: str, end: str) -> str:
    """The segments of `path` in front of `end`; either of the two may be percent-encoded."""
    segments, spelled = path.split("/")[1:], unquote(end)
    for position in range(len(segments)):
        if unquote("/" + "/".join(segments[position:])) == spelled:
            # Two slashes at the beginning are the path's own, not an empty prefix.
            return "".join(f"/{segment}" for segment in segments[:position]).rstrip("/")
    # A base path alone is asked for without a slash at its end.
    return path.rstrip("/") if spelled in {"", "/"} else ""


def _described(event: object) -> str:
    """The keys of an event; its values may be private."""
    if not isinstance(event, dict):
        return f"a {type(event).__name__}"
    keys = ", ".join(str(key)[:40] for key in list(event)[:_MAX_KEYS_SHOWN])
    return f"an object with the keys {keys}" if keys else "an empty object"
