"""Checks after the login: latency, pooler, version, schema, rights, connections."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import psycopg

from ..health.schema import SchemaState, state_of
from ..pool.sizing import pool_kind, pool_plan
from .context import Case
from .login import pooler_answers
from .result import Finding, ok, warning, wrong

_QUESTIONS = 7
# A function beside its database has 1 to 5 ms; more is another region.
_FAR_MS = 20.0
_OLDEST_VERSION = 150_000
# Neon's pooler takes this many clients.
_NEON_CLIENTS = 10_000
# A warning is due from this share of the server's connections.
_NEARLY_FULL = 0.8
_POOL = "Go through a pooler: DATABASE_MODE=pooled, and its address in DATABASE_URL."
_ROLE = """
    SELECT current_user, rolsuper, rolbypassrls,
           (SELECT count(*) FROM pg_class WHERE relowner = pg_roles.oid AND relkind IN ('r', 'p')),
           (SELECT string_agg(rolname, ', ') FROM pg_roles AS other WHERE other.oid <> pg_roles.oid
               AND NOT rolsuper AND pg_has_role(pg_roles.oid, other.oid, 'MEMBER')
               AND EXISTS (SELECT FROM pg_class WHERE relowner = other.oid AND relkind IN ('r', 'p')))
    FROM pg_roles WHERE rolname = current_user
"""
_OWN_ROLE = (
    "Serve requests as a role that owns nothing, and migrate as the owner (MIGRATION_DATABASE_URL): "
    "docs/troubleshooting.md says how."
)
_SERVER = """
    SELECT current_setting('server_version'), pg_is_in_recovery(),
           current_setting('default_transaction_read_only') = 'on'
"""
# The settings of newer servers are NULL in older ones.
_LIMITS = """
    SELECT current_setting('max_connections')::int,
           current_setting('superuser_reserved_connections')::int,
           coalesce(current_setting('reserved_connections', true)::int, 0),
           (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
           (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
"""


def check_latency(case: Case) -> Finding:
    """Check that a round trip is short enough."""
    times = []
    for _ in range(_QUESTIONS):
        begin = time.perf_counter()
        case.connection.execute("SELECT 1")
        times.append((time.perf_counter() - begin) * 1000)
    says = f"{statistics.median(times):.1f} ms for a round trip from here (median of {_QUESTIONS})"
    if case.settings.platform.is_serverless and statistics.median(times) > _FAR_MS:
        return warning(says, "Run in the database's region: vercel.json's regions, serverless.yml's region.")
    return ok(says)


def check_pooler(case: Case) -> Finding:
    """Check that a pooler answers if, and only if, the mode is pooled."""
    answers, mode = pooler_answers(case.connection, case.url), case.settings.mode
    if answers == (mode == "pooled"):
        return ok(
            f"{'a pooler answers' if answers else 'the server itself answers'}, as the mode {mode} says"
        )
    if answers:
        return warning(
            "a pooler answers, but the mode is direct",
            "Set DATABASE_MODE=pooled, or DATABASE_URL_UNPOOLED to the server's own address.",
        )
    return warning(
        "the server itself answers, but the mode is pooled: each instance takes its connections",
        "Set DATABASE_URL to the pooler's address, or DATABASE_MODE=direct.",
    )


def check_server(case: Case) -> Finding:
    """Check that the server's version is maintained, and that it takes writes."""
    version, in_recovery, read_only = _row(case, _SERVER)
    says = f"PostgreSQL {version}"
    if in_recovery or read_only:
        return wrong(
            f"{says}, read-only{' (a replica)' if in_recovery else ''}: every write fails",
            "Set DATABASE_URL to the primary; a replica goes into DATABASE_REPLICA_URL.",
        )
    if case.connection.info.server_version < _OLDEST_VERSION:
        return warning(f"{says} is older than what is tested", "Upgrade to PostgreSQL 15 or later.")
    return ok(says)


def check_schema(case: Case) -> Finding:
    """Check that the newest migration of the project was applied."""
    revisions = _revisions(case.root)
    if not revisions:
        return ok("no migrations are configured")
    revision: str | None = None
    try:
        revision = _row(case, "SELECT max(version_num) FROM alembic_version")[0]
    except psycopg.errors.UndefinedTable:
        pass
    except psycopg.errors.InsufficientPrivilege:
        return warning(
            "this role may not read alembic_version",
            f"GRANT SELECT ON alembic_version TO {case.connection.info.user};",
        )
    state: SchemaState = state_of(revision, revisions)
    if state == "current":
        return ok(f"at {revision}, the newest")
    if state == "ahead":
        return warning(
            f"at {revision}, which is newer than this code ({revisions[-1]})", "Deploy the newer code."
        )
    return wrong(
        f"{f'at {revision}' if revision else 'never migrated'}, behind this code ({revisions[-1]})",
        "make migrate",
    )


def _revisions(root: Path) -> list[str]:
    """Return the revisions of the Alembic project at `root`, newest last; an empty list without one."""
    try:
        from alembic.config import Config  # noqa: PLC0415  (only this check needs it)
        from alembic.script import ScriptDirectory  # noqa: PLC0415
        from alembic.util import CommandError  # noqa: PLC0415
    except ModuleNotFoundError:
        # A project that migrates with it has it.
        return []
    try:
        scripts = ScriptDirectory.from_config(Config(toml_file=str(root / "pyproject.toml")))
    except CommandError:
        return []
    return [script.revision for script in scripts.walk_revisions()][::-1]


def check_role(case: Case) -> Finding:
    """The role has no rights that a request should not have."""
    name, superuser, bypasses, tables, owners = _row(case, _ROLE)
    rights = {
        "is a superuser": superuser,
        "bypasses row-level security": bypasses,
        f"owns {tables} table{'s' if tables > 1 else ''}, whose policies it can switch off": tables,
        f"may act as {owners}, which owns tables": owners,
    }
    too_many = [right for right, has in rights.items() if has]
    if too_many:
        return warning(f"{name} {' and '.join(too_many[:2])}", _OWN_ROLE)
    return ok(f"{name} owns no table, and is neither superuser nor bypasses row-level security")


def check_budget(case: Case) -> Finding:
    """Check that the connections of all instances fit the limit of the server or its pooler."""
    maximum, superusers, reserved, of_role, of_database, used = _row(case, _LIMITS)
    room = maximum - superusers - reserved
    sum_ = f"{room} connections ({maximum} less {superusers + reserved} reserved)"
    for limit, owner in ((of_role, "role"), (of_database, "database")):
        if 0 <= limit < room:
            room, sum_ = limit, f"{limit} connections (the {owner}'s limit)"
    each = f"a {pool_kind(case.settings)} pool takes {_capacity(case)} for each process"
    if pooler_answers(case.connection, case.url):
        if case.url.is_neon:
            return _counted(case, _NEON_CLIENTS, f"Neon's pooler takes {_NEON_CLIENTS} clients; {each}")
        return ok(f"{each}: what the pooler's max_client_conn leaves room for; behind it {sum_}")
    if used >= room * _NEARLY_FULL:
        return warning(f"{used} in use of {sum_}", _POOL)
    found = _counted(case, room, f"{sum_}, {used} in use; {each}")
    if found.status == "ok" and case.settings.platform.is_serverless:
        return warning(f"direct on {case.settings.platform.name}: {found.says}", _POOL)
    return found


def _counted(case: Case, room: int, says: str) -> Finding:
    """Return whether the known number of processes fits, or how many would fit."""
    capacity = _capacity(case)
    if case.instances is None:
        return ok(f"{says}: room for {room // capacity} processes")
    needed = case.instances * capacity
    says = f"{says}: {case.instances} x {capacity} = {needed}"
    if needed <= room:
        return ok(f"{says}, of {room}")
    return wrong(f"{says}, more than {room}", f"{_POOL} Or make the pool smaller: DATABASE_POOL_SIZE.")


def _capacity(case: Case) -> int:
    plan = pool_plan(case.settings)
    return plan.size + plan.max_overflow


def _row(case: Case, query: str) -> Any:
    return case.connection.execute(query.encode()).fetchone()
