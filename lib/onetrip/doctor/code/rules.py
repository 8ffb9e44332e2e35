"""The table of rules: a mistake's id, what finds it, what it does, and the remedy."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import engines, sessions
from .module import Module, line
from .project import Project


@dataclass(frozen=True, slots=True)
class Rule:
    """A mistake and its remedy."""

    id: str
    find: Callable[[Project, Module], Iterator[ast.AST]]
    says: str
    remedy: str


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The place of a mistake."""

    path: str
    line: int
    rule: str


RULES = (
    Rule(
        "commit-after-response",
        sessions.commits_after_response,
        "this dependency commits after the response was sent: a COMMIT that fails is a 2xx without the data",
        'End it before the response: Depends(…, scope="function"), session_dependency(…), or SessionDep.',
    ),
    Rule(
        "engine-per-call",
        engines.engine_per_call,
        "each call makes an engine, with a pool and a login of its own",
        "Make one engine for the process, at module level or behind functools.cache.",
    ),
    Rule(
        "lifespan-dispose",
        sessions.disposing_lifespan,
        "Mangum runs the lifespan at each invocation, so this closes every connection after each request",
        'Use Mangum(app, lifespan="off"), and let the process keep its engine.',
    ),
    Rule(
        "session-set",
        engines.session_set,
        "behind a transaction pooler SET reaches whichever request gets the server connection next",
        "Use SET LOCAL within the transaction, onetrip.SETTINGS, or ALTER ROLE … SET.",
    ),
    Rule(
        "listen",
        engines.listens,
        "LISTEN needs a session of its own; behind a transaction pooler nothing ever arrives",
        "Listen over the direct URL (DATABASE_URL_UNPOOLED), in a process that keeps running.",
    ),
    Rule(
        "session-lock",
        engines.session_lock,
        "a session's advisory lock stays with the pooler's connection, and is unlocked on another or never",
        "Use pg_advisory_xact_lock, which ends with the transaction, or the direct URL.",
    ),
    Rule(
        "pool-times-instances",
        engines.pool_times_instances,
        "so many connections for each instance: a few dozen instances use up the server",
        "Use the pooled URL and a tiny pool: onetrip.create_engine(url), or pool_size=2, max_overflow=0.",
    ),
    Rule(
        "pool-without-ping",
        engines.pool_without_ping,
        "idle connections die when the database suspends or the function freezes, and are used all the same",
        "Use onetrip.create_engine(url), or pool_pre_ping=True and pool_recycle=240.",
    ),
    Rule(
        "sync-in-async",
        sessions.sync_in_async,
        "a sync session in async code: all other requests wait for each of its statements",
        "Make it a plain def, or use an async session (AsyncSessionDep, async_sessionmaker).",
    ),
    Rule(
        "connects-at-import",
        engines.connects_at_import,
        "the import asks the database: each cold start pays for it, and fails when the database sleeps",
        "Create tables by migrations (alembic upgrade head) at deploy; connect on first use.",
    ),
    Rule(
        "statement-cache",
        engines.statement_cache,
        "asyncpg caches prepared statements, which a transaction pooler does not keep together",
        "Use onetrip.create_async_engine(url), or connect_args with statement_cache_size=0.",
    ),
    Rule(
        "background-session",
        sessions.background_session,
        "the task runs after the request's session has ended",
        "Pass ids, and open a session in the task: with onetrip.transaction() as session.",
    ),
    Rule(
        "streamed-session",
        sessions.streamed_session,
        "the stream is read after the request's session has ended",
        "Open a session in the generator: with onetrip.reading() as session.",
    ),
    Rule(
        "prints-url",
        engines.prints_url,
        "the URL is logged with its password",
        "Log engine.url or DatabaseURL, which hide it, or nothing.",
    ),
    Rule(
        "hard-coded-secret",
        engines.hard_coded_secret,
        "a secret stands in the code, and in its history",
        "Change the secret, and read it from the environment.",
    ),
    Rule(
        "expires-on-commit",
        sessions.expires_on_commit,
        "after a commit each attribute is read again, which async code cannot await (MissingGreenlet)",
        "Say expire_on_commit=False.",
    ),
    Rule(
        "swallowed-error",
        sessions.swallowed_error,
        "the error is caught and the transaction not rolled back: whatever follows in it fails or is lost",
        "Call rollback() first, or put what may fail into begin_nested().",
    ),
    Rule(
        "calls-out",
        sessions.calls_out,
        "the transaction, its locks and its connection are held while another service is asked",
        "Commit or close before calling out, or ask first.",
    ),
    Rule(
        "middleware-session",
        sessions.middleware_session,
        "the middleware holds a connection for the whole request, even if no route needs one",
        "Give sessions to routes by Depends; in the middleware end its own before call_next.",
    ),
    Rule(
        "shared-session",
        sessions.shared_session,
        "one session serves all requests: they see and commit each other's work",
        "Make a session for each request, by a dependency.",
    ),
    Rule(
        "gathered-session",
        sessions.gathered_session,
        "one session in several tasks at once, which is an error or worse",
        "Await one after the other, use onetrip.async_batch, or a session for each task.",
    ),
)
BY_ID = {rule.id: rule for rule in RULES}


def examine(project: Project) -> list[Place]:
    """Every mistake in the project, in the order of files and lines."""
    return sorted(
        {
            Place(module.path, line(node), rule.id)
            for module in project.modules
            for rule in RULES
            for node in rule.find(project, module)
            if f"doctor: {rule.id}" not in _source_line(module, line(node))
        }
    )


def _source_line(module: Module, number: int) -> str:
    lines = module.source.splitlines()
    return lines[number - 1] if 0 < number <= len(lines) else ""
