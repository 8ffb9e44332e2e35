"""The log as text for a terminal, as development on one's own machine has it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .json_log import JSONLine
from .request_stats import current_stats

# Told in the request's own words, or true of nearly every request.
_TOLD = ("logger", "route", "method", "status", "duration_seconds", "db_seconds", "round_trips")
_USUAL = {"pool_seconds": 0.0, "connect_seconds": 0.0, "connections": 0, "tries": 1, "cold_start": False}


class ReadableLine(JSONLine):
    """Formats a record for a terminal: time of day, level, event, then the other members."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, with the traceback below it in Python's own form."""
        members = self.clean(self.members(record))
        below = [members.pop(name) for name in ("traceback", "stack") if name in members]
        first = [members.pop("time")[11:23], members.pop("level").upper()]
        event, stats = members.pop("event"), current_stats()
        if "duration_seconds" in members and stats and stats.path:
            event = _request(members, self.clean(stats.path))
            members = {name: value for name, value in members.items() if _is_worth_it(name, value)}
        rest = [f"{name}={value}" for name, value in members.items()]
        return "\n".join([" ".join([*first, event, *rest]), *below])


def _request(members: Mapping[str, Any], path: str) -> str:
    trips = members["round_trips"]
    return (
        f"{members['method']} {path.encode('unicode_escape').decode()} {members.get('status', 'no answer')} "
        f"in {members['duration_seconds'] * 1000:.1f} ms, {trips} round trip{'' if trips == 1 else 's'} "
        f"({members['db_seconds'] * 1000:.1f} ms)"
    )


def _is_worth_it(name: str, value: object) -> bool:
    return name not in _TOLD and (name not in _USUAL or value != _USUAL[name])
