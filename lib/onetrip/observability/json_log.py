"""JSON logs: every record of the process as one object a line, with the ids of its request.

In development, on a machine that is no function, the same members as readable text.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import otel as measures
from .redaction import HIDDEN, Redaction, details
from .request_stats import current_stats

if TYPE_CHECKING:
    from ..settings.settings import Settings
    from ..url.database_url import DatabaseURL

# Our packages log at INFO, all others at WARNING.
_OURS = ("api", "lib", "onetrip")

# Access logs of servers hold the path and query; the access log of this package replaces them.
_SERVERS_OWN = ("uvicorn.access", "gunicorn.access", "hypercorn.access")
_TOLD = "_told"

# Platforms split longer lines, and neither half is JSON. An error may quote a megabyte of SQL.
_LONGEST_LINE, _LONGEST_TEXT = 100_000, 20_000

Redact = Callable[[str], str]
_encode = json.JSONEncoder(default=str).encode


class JSONLine(logging.Formatter):
    """Formats a record as one JSON object, with newlines escaped and secrets removed."""

    def __init__(self, redact: Redact, may_hold_secrets: Callable[[str], bool] = lambda _: True) -> None:
        super().__init__()
        self._redact = redact
        self._may_hold_secrets = may_hold_secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return the time, level, event, logger, request ids and extra fields of the record."""
        members = self.members(record)
        line = _encode(members)
        # Few lines hold a secret: one search of the line is cheaper than cleaning each of its texts.
        return line if self.is_final(line) else _encode(self.clean(members))

    def members(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what the line says, by name."""
        members: dict[str, Any] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": _message(record),
            "logger": record.name,
        }
        if stats := current_stats():
            members |= {**stats.ids, **measures.trace_ids(), "route": stats.find_route()}
        members |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0]:
            members |= {
                "exception": record.exc_info[0].__name__,
                "traceback": _traceback(self.formatException(record.exc_info), record.exc_info[1]),
            }
        if record.stack_info:
            members["stack"] = record.stack_info
        return {name: value for name, value in members.items() if value is not None}

    def clean(self, value: Any) -> Any:
        """Return `value` without secrets, and without the middle of texts that are too long."""
        if isinstance(value, str):
            return _cut(self._redact(value))
        if isinstance(value, Mapping):
            return {name: self.clean(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean(part) for part in value]
        return value if isinstance(value, int | float | None) else _cut(self._redact(str(value)))

    def is_final(self, line: str) -> bool:
        """Return True if a line of JSON needs no cleaning."""
        return len(line) <= _LONGEST_LINE and not self._may_hold_secrets(line)


def timestamp(moment: float) -> str:
    """A moment since 1970 in UTC, to the millisecond."""
    second = int(moment)
    return f"{_date_and_time(second)}.{int((moment - second) * 1000):03d}+00:00"


@lru_cache(maxsize=2)
def _date_and_time(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _cut(text: str) -> str:
    """Cut the middle out of a text that is too long."""
    half = _LONGEST_TEXT // 2
    return text if len(text) <= _LONGEST_TEXT else f"{text[:half]} ... {text[-half:]}"


class _StandardOutput(logging.Handler):
    """Writes to the current `sys.stdout`: platforms replace it to assign each line to a request."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and getattr(record.exc_info[1], _TOLD, False):
            return
        try:
            self._write(self.format(record))
        except Exception:  # noqa: BLE001  (a log line that fails must not fail the request)
            self.handleError(record)

    def wrote(self, line: str, end: str) -> bool:
        """Write a finished line, unless it needs cleaning or cannot be written: then a record can say so.

        Its end is known to need none.
        """
        formatter = self.formatter
        if self.filters or type(formatter) is not JSONLine or not formatter.is_final(line):
            return False
        try:
            self._write(line + end)
        except Exception:  # noqa: BLE001  (the record's own way handles it)
            return False
        return True

    def _write(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def only_output(logger: logging.Logger) -> Callable[[str, str], bool] | None:
    """The function that writes finished lines of `logger`, if nothing but this module reads its records.

    The function returns False for a line that it did not write.
    """
    if measures.sdk_is_loaded() or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    while logger.parent:
        if logger.handlers or logger.filters or not logger.propagate:
            return None
        logger = logger.parent
    handlers = logger.handlers
    only = handlers[0] if len(handlers) == 1 else None
    return only.wrote if isinstance(only, _StandardOutput) else None


def install(settings: Settings, stored_url: Callable[[], DatabaseURL | None] = lambda: None) -> None:
    """Send every log record of this process, also of servers and drivers, through this format."""
    handler = _StandardOutput()
    handler.setFormatter(_line(settings, Redaction(settings, stored_url)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name, logger in root.manager.loggerDict.items():
        # Handlers that a server has installed already.
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = name not in _SERVERS_OWN
    if settings.database_echo:
        # Without a handler on this logger SQLAlchemy would add one that prints.
        logging.getLogger("sqlalchemy.engine.Engine").addHandler(logging.NullHandler())
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda end: _log_uncaught(end.exc_type, end.exc_value, end.exc_traceback)


def _line(settings: Settings, redaction: Redaction) -> JSONLine:
    if settings.is_development and not settings.platform.is_serverless:
        from .readable_log import ReadableLine  # noqa: PLC0415  (of one's own machine)

        return ReadableLine(redaction)
    return JSONLine(redaction, redaction.may_be_needed)


def mark_logged(error: BaseException) -> None:
    """Mark the error as logged: later lines about it, which lack its request, are dropped."""
    setattr(error, _TOLD, True)


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    info = (kind, error or kind(), traceback)
    logging.getLogger(__name__).critical("uncaught error", exc_info=info)


def _traceback(text: str, error: BaseException | None) -> str:
    for detail in details(error):
        text = text.replace(f"DETAIL:  {detail}", f"DETAIL:  {HIDDEN}")
    return text


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  (arguments that do not fit the text: log the text alone)
        return str(record.msg)
