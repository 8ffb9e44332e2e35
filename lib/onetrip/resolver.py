"""Host names made addresses, by a deadline: the system's own resolver can be neither interrupted nor bounded.

Each lookup has a thread of its own, which can be left behind. Lookups of one name at one time are
one, so that a silent name server costs one thread and not one for each try.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from . import forks
from .deadlines import current_deadline

Addresses = list[str]
_lookups: dict[str, Future[Addresses]] = {}
_lock = threading.Lock()


def resolved(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Libpq's parameters with the addresses of their hosts; raise OSError, TimeoutError at the deadline."""
    found: dict[str, Addresses | OSError] = {}
    for name in _names(parameters):
        try:
            found[name] = _lookup(name).result(_seconds_left())
        except OSError as error:
            found[name] = _told(name, error)
    return _with_addresses(parameters, found)


async def async_resolved(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`resolved` for async code."""
    found: dict[str, Addresses | OSError] = {}
    for name in _names(parameters):
        # Others may wait for the same lookup.
        answer = asyncio.shield(asyncio.wrap_future(_lookup(name)))
        try:
            found[name] = await asyncio.wait_for(answer, _seconds_left())
        except OSError as error:
            found[name] = _told(name, error)
    return _with_addresses(parameters, found)


def _told(name: str, error: OSError) -> OSError:
    """The error by the words that psycopg has for it."""
    if isinstance(error, TimeoutError):
        return TimeoutError(f"failed to resolve host {name!r}: the name server did not answer in time")
    return OSError(f"failed to resolve host {name!r}: {error}")


def _names(parameters: Mapping[str, Any]) -> Iterator[str]:
    """The hosts that are to be looked up."""
    if parameters.get("hostaddr"):
        return
    for host in str(parameters.get("host") or "").split(","):
        if host and not host.startswith(("/", "@")) and not _is_address(host):
            yield host


def _with_addresses(
    parameters: Mapping[str, Any], found: Mapping[str, Addresses | OSError]
) -> dict[str, Any]:
    """The parameters with one host and port for each address, as libpq tries them in turn."""
    if not found:
        return dict(parameters)
    errors = [error for error in found.values() if isinstance(error, OSError)]
    hosts = str(parameters["host"]).split(",")
    ports = str(parameters.get("port") or "").split(",")
    # One port stands for all hosts.
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = [
        (host, port, address)
        for host, port in zip(hosts, ports, strict=False)
        for address in _addresses(host, found)
    ]
    if not places:
        raise errors[-1]
    columns = [",".join(column) for column in zip(*places, strict=True)]
    return {**parameters, **dict(zip(("host", "port", "hostaddr"), columns, strict=True))}


def _addresses(host: str, found: Mapping[str, Addresses | OSError]) -> Addresses:
    addresses = found.get(host, [host if _is_address(host) else ""])
    return [] if isinstance(addresses, OSError) else addresses


def _lookup(name: str) -> Future[Addresses]:
    with _lock:
        lookup = _lookups.get(name)
        if lookup is None:
            lookup = _lookups[name] = Future()
            threading.Thread(target=_look_up, args=[name, lookup], name="resolver", daemon=True).start()
        return lookup


def _look_up(name: str, lookup: Future[Addresses]) -> None:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        _lookups.pop(name, None)
        lookup.set_exception(error if isinstance(error, OSError) else OSError(str(error)))
    else:
        _lookups.pop(name, None)
        lookup.set_result(list(dict.fromkeys(str(address[0]) for *_, address in found)))


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        return bool(ip_address(host.partition("%")[0]))
    return False


def _seconds_left() -> float | None:
    deadline = current_deadline()
    return deadline.seconds_left if deadline else None


def _forget() -> None:
    """Leave the lookups under way to the parent process, with their threads."""
    global _lock  # noqa: PLW0603  (another thread may have held it)
    _lock = threading.Lock()
    _lookups.clear()


forks.after_in_child(_forget)
