"""The network that a request comes from, by what the platform itself says of it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from ..settings.settings import Settings
from .access_log import header

# A household or an office has at least this much of IPv6, in which it makes up addresses as it likes.
_IPV6_PREFIX = 64


def client_network(scope: Mapping[str, Any], settings: Settings) -> str:
    """The client's IPv4 address or IPv6 /64 network; empty if it is not known."""
    try:
        address = ip_address(_address(scope, settings).strip())
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address) if address.version == 4 else str(ip_network((address, _IPV6_PREFIX), strict=False))  # noqa: PLR2004


def _address(scope: Mapping[str, Any], settings: Settings) -> str:
    """The address as the nearest proxy saw it: what stands in front of that, clients can write themselves."""
    forwarded = header(scope, b"x-forwarded-for")
    if settings.platform.name == "vercel":
        # The platform writes it anew.
        return forwarded.partition(",")[0]
    if (event := scope.get("aws.event")) is not None:
        context = event.get("requestContext") or {}
        seen = (context.get("http") or context.get("identity") or {}).get("sourceIp")
        return str(seen or forwarded.rpartition(",")[2])
    if settings.platform.is_serverless and forwarded:
        return forwarded.rpartition(",")[2]
    client = scope.get("client")
    return str(client[0]) if client else ""
