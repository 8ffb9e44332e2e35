"""The checks in their order. Each runs after the check that it needs has passed, and within its time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ..deadlines import Deadline
from ..sqlstate import Kind, classify
from . import configuration, login, network, package, server
from .context import Case
from .result import Finding, skipped, wrong
from .time_limit import within

# Time for all checks that use the network, so that a silent host costs no more.
ASKING_SECONDS = 6.0
_SLOW = "Run it again. If it fails again, check the network and the load of the server."


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its id, the check that must pass before it, and its time limit."""

    id: str
    run: Callable[[Case], Finding]
    needs: str | None = None
    seconds: float = 2.0


CHECKS = (
    Check("settings", configuration.check_settings),
    Check("secret", configuration.check_secret, "settings", seconds=3.0),
    Check("url", configuration.check_url, "secret"),
    Check("dns", network.check_dns, "secret"),
    Check("tcp", network.check_tcp, "dns"),
    Check("tls", network.check_tls, "tcp"),
    Check("login", login.check_login, "tls", seconds=4.0),
    Check("latency", server.check_latency, "login"),
    Check("pooler", server.check_pooler, "login"),
    Check("server", server.check_server, "login"),
    # It imports Alembic and the models.
    Check("schema", server.check_schema, "login", seconds=4.0),
    Check("role", server.check_role, "login"),
    Check("budget", server.check_budget, "login"),
    Check("direct", login.check_direct, "secret"),
    Check("replica", login.check_replica, "settings"),
    Check("package", package.check_package),
)
IDS = tuple(check.id for check in CHECKS)
_BY_ID = {check.id: check for check in CHECKS}


def examine(case: Case, only: Collection[str] = ()) -> Iterator[tuple[str, Finding]]:
    """Yield the id and finding of each check in `only`, or of all checks, as soon as it is known.

    A failed check that one in `only` needs is yielded too.
    """
    wanted = set(only or IDS)
    needed = {link for name in wanted for link in _with_needs(name)}
    until = Deadline.after(ASKING_SECONDS)
    try:
        for check in CHECKS:
            if check.id not in needed:
                continue
            found = _skipped(check, case) or _found(check, case, until)
            if found.status in {"wrong", "skipped"}:
                case.failed.append(check.id)
            if check.id in wanted or found.status == "wrong":
                yield check.id, found
    finally:
        case.close()


def _with_needs(name: str) -> Iterator[str]:
    link: str | None = name
    while link:
        yield link
        link = _BY_ID[link].needs


def _skipped(check: Check, case: Case) -> Finding | None:
    """Return the reason why `check` cannot run: the first check before it that failed."""
    way = {*_with_needs(check.id)}
    if cause := next((name for name in case.failed if name in way), None):
        return skipped(cause)
    lost = check.needs == "login" and not case.is_connected
    return skipped(case.failed[-1]) if lost and case.failed else None


def _found(check: Check, case: Case, until: Deadline) -> Finding:
    # The package is a local check: it runs even if the network checks used up the time.
    seconds = min(check.seconds, until.seconds_left) if check.id != "package" else check.seconds
    if not seconds:
        return wrong("not checked: earlier checks took all the time", _SLOW)
    try:
        return within(seconds, lambda: check.run(case))
    except Exception as error:  # noqa: BLE001  (an operator gets a finding, not a traceback)
        return _failed(error, seconds)


def _failed(error: Exception, seconds: float) -> Finding:
    fault = classify(error)
    if fault is None:
        return wrong(f"could not be checked ({_name(error)})", "This is a fault of the doctor: report it.")
    if fault.kind is Kind.TIMEOUT:
        return wrong(f"no answer within {seconds:.1f} s", _SLOW)
    return wrong(f"the server ended the connection ({_name(error)})", _SLOW)


def _name(error: Exception) -> str:
    """Return the type and SQLSTATE of an error; its text may hold secrets."""
    sqlstate = getattr(error, "sqlstate", None)
    return f"{type(error).__name__}{f', SQLSTATE {sqlstate}' if sqlstate else ''}"
