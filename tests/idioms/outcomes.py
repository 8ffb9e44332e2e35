"""What people write by habit, and what comes of it: the rows of `docs/idioms.md`, each with its test.

`python -m tests.idioms.outcomes` writes the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "idioms.md"

WORKS = "works"
_HEAD = """# What people write by habit

Each row is an idiom of FastAPI's, SQLAlchemy's or SQLModel's documentation. It works as that says, or
it is refused at once with a sentence that names the remedy. It never hangs, and never answers 2xx without
the data; nothing is stored twice, no connection is lost, and no other request is hurt.

Those of routes are tried with a pool of two connections and eight requests at once, sync and async, directly
and through PgBouncer, under uvicorn and by Lambda's handler; afterwards the pool is whole and a hundred
requests are served. "Before" is what the first version of this package did, where it was seen to break. How
to write each is on the page of [sessions](sessions.md).

| idiom | outcome | before | test |
|---|---|---|---|
"""


class Row(NamedTuple):
    """An idiom, its outcome, the one that it had before, and where it is tried: file, or file::test."""

    idiom: str
    outcome: str
    before: str
    test: str


ROWS = [
    Row(
        "`get_current_user` with a session of its own beside the route's",
        "works if the first only read, else refused",
        "503 after 10 s for six in eight",
        "idioms/test_two_sessions.py",
    ),
    Row(
        "a function that opens its own `transaction()`",
        "works beside a session that only read, else refused",
        "two at once: both 503 after 10 s",
        "idioms/test_two_sessions.py::test_a_function_opens_its_own_transaction",
    ),
    Row(
        "`add`, `commit`, `refresh`",
        WORKS,
        "500, the row stored",
        "idioms/test_transactions.py::test_add_commit_refresh",
    ),
    Row(
        "get or create by `IntegrityError` and `rollback`",
        WORKS,
        "201, no row",
        "idioms/test_transactions.py::test_get_or_create",
    ),
    Row(
        "an error caught without a rollback, then a 2xx",
        "500, nothing stored",
        "201, no row",
        "idioms/test_transactions.py::test_an_error_that_is_caught_without_a_rollback_is_no_success",
    ),
    Row(
        "`with session.begin():`, after a query too",
        WORKS,
        "500",
        "idioms/test_transactions.py::test_a_transaction_is_begun_after_a_dependency_has_read",
    ),
    Row(
        "`session.connection().commit()`",
        "refused before it is sent",
        "500, the row stored",
        "idioms/test_ends.py",
    ),
    Row(
        "`COMMIT` as a statement, the driver's `commit()`",
        WORKS,
        "run again after a lost connection: stored twice",
        "idioms/test_repetition.py::test_what_was_committed_is_not_done_again",
    ),
    Row(
        "`begin_nested()` around a part that fails",
        WORKS,
        "",
        "idioms/test_transactions.py::test_a_savepoint_keeps_what_was_before_it",
    ),
    Row(
        "a stream over the route's session",
        "refused: 500 that names the way",
        "an empty 200; after three, the process stood",
        "idioms/test_after_the_answer.py::test_a_stream_over_the_routes_session_is_an_error_that_names_the_way",
    ),
    Row(
        "a stream with a session of its own",
        WORKS,
        "",
        "idioms/test_after_the_answer.py::test_a_stream_with_a_session_of_its_own",
    ),
    Row(
        "`BackgroundTasks` with the route's session",
        "refused in the log",
        "its work lost",
        "idioms/test_after_the_answer.py::test_a_background_task_with_the_routes_session_names_the_way",
    ),
    Row(
        "`BackgroundTasks` with a session of its own",
        "works, beyond the deadline too",
        "cut off at the deadline",
        "idioms/test_after_the_answer.py::test_a_background_task_with_a_session_of_its_own",
    ),
    Row(
        "`create_task` and threads that outlive the request",
        "work, with places of their own",
        "cut off at the deadline",
        "idioms/test_after_the_answer.py::test_what_outlives_a_request_has_no_part_in_it",
    ),
    Row(
        "the same on Lambda",
        "what holds a connection ends before the freeze",
        "held until the next invocation",
        "idioms/test_after_the_answer.py::test_work_that_holds_a_connection_is_finished_before_the_freeze",
    ),
    Row(
        "`asyncio.gather` and `TaskGroup` over sessions of their own",
        "work in turns",
        "",
        "idioms/test_two_sessions.py::test_parts_of_a_request_run_concurrently",
    ),
    Row(
        "an own `transaction()` in `to_thread` or an executor",
        "refused at once; in an executor within seconds",
        "503 after the pool's whole time",
        "idioms/test_threads.py",
    ),
    Row(
        "one session for two tasks at once",
        "refused",
        "",
        "idioms/test_two_sessions.py::test_a_session_is_used_by_two_tasks_at_once",
    ),
    Row(
        "`app.dependency_overrides`",
        WORKS,
        "",
        "idioms/test_extension_points.py::test_dependencies_are_overridden",
    ),
    Row(
        "a lifespan that asks the database, a mounted one's too",
        WORKS,
        "",
        "idioms/test_statements.py::test_a_mounted_application_with_a_lifespan_of_its_own",
    ),
    Row(
        "`@app.exception_handler`",
        WORKS,
        "never called",
        "idioms/test_extension_points.py::test_exception_handlers_are_called",
    ),
    Row(
        "`app.mount` with sessions inside",
        WORKS,
        "500",
        "idioms/test_extension_points.py::test_a_mounted_application_has_sessions_and_problems",
    ),
    Row(
        "middleware that asks the database",
        WORKS,
        "",
        "idioms/test_extension_points.py::test_middleware_asks_the_database",
    ),
    Row(
        "sessions in WebSocket routes",
        WORKS,
        "500",
        "idioms/test_extension_points.py::test_websockets_have_sessions",
    ),
    Row(
        "`yield` dependencies around the session",
        'work with `scope="function"`',
        "",
        "idioms/test_extension_points.py::test_dependencies_around_the_session",
    ),
    Row(
        "class-based and uncached dependencies",
        WORKS,
        "",
        "idioms/test_two_sessions.py::test_a_class_is_the_dependency",
    ),
    Row(
        "one's own session class, SQLModel's `exec`",
        WORKS,
        "not possible",
        "idioms/test_kept_sessions.py::test_the_applications_own_class_and_commits",
    ),
    Row(
        "`engine.begin()`, `connect()`, `raw_connection()`",
        "work",
        "`raw_connection()` committed by itself",
        "idioms/test_statements.py::test_engines_without_a_session",
    ),
    Row(
        "COPY both ways",
        WORKS,
        "",
        "idioms/test_statements.py::test_copy_belongs_to_the_sessions_transaction",
    ),
    Row(
        "`yield_per`, `stream_scalars`, server-side cursors",
        WORKS,
        "",
        "idioms/test_statements.py::test_rows_of_a_stream_in_a_route",
    ),
    Row(
        "`LISTEN`, session locks",
        "work on the direct URL",
        "",
        "onetrip/connection/test_contract.py",
    ),
    Row(
        "`FOR UPDATE` with SKIP LOCKED and NOWAIT",
        "work; a lock that stays is 503",
        "",
        "idioms/test_statements.py::test_waiting_work_is_taken_once",
    ),
    Row(
        "SERIALIZABLE",
        "works, run again after conflicts",
        "",
        "idioms/test_statements.py::test_serializable_conflicts_are_run_again",
    ),
    Row(
        "AUTOCOMMIT: VACUUM, procedures that commit",
        "work",
        "errors lost",
        "onetrip/connection/test_errors_in_flight.py",
    ),
    Row(
        "large statements, too many parameters",
        "work; beyond the protocol's bounds 422",
        "hung",
        "idioms/test_errors.py::test_what_it_is_decides",
    ),
    Row(
        "many rows by `add_all`, lists and RETURNING",
        WORKS,
        "",
        "idioms/test_statements.py::test_many_rows_at_once",
    ),
    Row(
        "several statements in one text, percent signs",
        WORKS,
        "",
        "idioms/test_statements.py::test_several_statements_in_one_text",
    ),
    Row("two-phase commit", WORKS, "", "onetrip/connection/test_cursors.py::test_two_phase_commit_works"),
    Row(
        "objects with lazy relations as `response_model`",
        "work in `def` routes; in `async def` refused",
        "",
        "idioms/test_transactions.py::test_objects_are_returned_with_their_relations",
    ),
    Row(
        "a client or task that is cancelled, in the midst of each",
        "rolled back, the pool whole",
        "run again: 200, and the row stored",
        "idioms/test_fuzz.py",
    ),
    Row(
        "a loop for each test, `asyncio.run` twice, TestClient without `with`",
        "work",
        "500 for six in eight",
        "idioms/test_kept_sessions.py::test_event_loops_after_each_other",
    ),
    Row("`os.fork` with warm connections", WORKS, "shared sockets", "onetrip/test_process.py"),
    Row(
        "CORS and gzip middleware",
        "their headers are on every answer",
        "",
        "idioms/test_extension_points.py::test_cors_headers_are_on_every_answer",
    ),
    Row(
        "`version_id_col`",
        "a conflict is 409",
        "",
        "idioms/test_transactions.py::test_optimistic_locking_answers_409",
    ),
    Row(
        "a test suite that rolls back",
        WORKS,
        "",
        "idioms/test_kept_sessions.py::test_a_test_suite_that_rolls_back",
    ),
    Row(
        "a kept `SessionLocal`, 48 and 128 requests at once",
        WORKS,
        "40 of 48 were 500 after 10 s",
        "idioms/test_kept_sessions.py::test_sync_requests_at_once_do_not_starve",
    ),
    Row(
        "a session that is never closed, lost or in a global",
        "given back at the request's end, with a warning",
        "its place was lost for good",
        "idioms/test_kept_sessions.py::test_a_session_that_is_never_closed",
    ),
    Row(
        "errors without an SQLSTATE",
        "4xx for a client's value, 500 for a mistake of ours",
        "told alike",
        "idioms/test_errors.py::test_what_it_is_decides",
    ),
    Row(
        "cursors of other classes",
        "share the transaction",
        "ran outside of it",
        "onetrip/connection/test_contract.py::test_cursors_of_other_classes_share_the_transaction",
    ),
    Row("options and listeners of `create_engine`", "work", "", "onetrip/pool/test_engines.py"),
    Row(
        "a slow call in the midst of a transaction",
        "a warning in development",
        "",
        "idioms/test_external_calls.py",
    ),
]


def document() -> str:
    """The page."""
    return _HEAD + "".join(map(_line, ROWS))


def _line(row: Row) -> str:
    path = row.test.partition("::")[0]
    return f"| {row.idiom} | {row.outcome} | {row.before} | `tests/{path}` |\n"


if __name__ == "__main__":
    PAGE.write_text(document())
