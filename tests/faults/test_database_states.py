"""The database is in every state in which it does not serve: the right status, and nothing is lost."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg

from lib.onetrip.testing.postgres_programs import give
from tests.faults.conftest import readable
from tests.faults.deployment import LATE_SECONDS
from tests.onetrip.network import until

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Answer, Application, Deployment
    from tests.faults.promises import Row
    from tests.onetrip.conftest import Certificates

DEADLINE_SECONDS = 3
FULL = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'"
TRIGGER = """
CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {fault}; END $$;
CREATE {kind} TRIGGER full_disk AFTER INSERT ON posts {when} FOR EACH ROW EXECUTE FUNCTION full_disk();
"""


class States:
    """The application, the server behind it, and the row that counts what it did right."""

    def __init__(self, deployment: Deployment, application: Application, row: Row) -> None:
        self.deployment = deployment
        self.application = application
        self.row = row
        (self.person,) = deployment.people()
        self.stored = 0

    def write(self) -> Answer:
        """Ask for something to be stored."""
        answer = self.application.ask(
            "POST", "/api/v1/posts", {"title": "t", "content": "x"}, user=self.person
        )
        self.stored += answer.status == 201
        return answer

    def expect(
        self, what: str, answer: Answer, status: int, kind: str = "", *, retry: bool | None = None
    ) -> None:
        """Count the step as kept if the answer is this one, in time, with `Retry-After` or without."""
        kept = answer.status == status and answer.kind.startswith(kind)
        kept = kept and answer.seconds < DEADLINE_SECONDS + LATE_SECONDS
        kept = kept and (retry is None or ("retry-after" in answer.headers) == retry)
        self.row.count(kept, f"{what}: {answer}")

    def recovered(self, what: str) -> None:
        """Writes succeed again without a restart, and as many are stored as were acknowledged."""
        until(lambda: self.write().status == 201)
        found = self.deployment.sql("SELECT count(*) FROM posts")
        self.row.count(found == [(self.stored,)], f"after {what}: {found}, {self.stored} acknowledged")


def test_each_state_of_the_database_is_answered_for_what_it_is(
    own: Deployment, certificates: Certificates, rows: Rows
) -> None:
    """503 with `Retry-After` for what passes, 500 without for what does not; afterwards all is as before.

    Without a pooler, which would say nothing of most of it: its clients wait, and get 504 by the deadline.
    """
    row = rows("states", 18, 18)
    variables = {"mode": "direct", "REQUEST_TIMEOUT_SECONDS": str(DEADLINE_SECONDS)}
    with readable(own, certificates, "direct") as proxy, own.serving(proxy.port, **variables) as application:
        states = States(own, application, row)
        states.recovered("the start")
        _read_only(states)
        _disk_full(states)
        _without_rights(states)
        _out_of_connections(states)
        _shutting_down(states)
        _starting_up(states)
    row.check()


def _read_only(states: States) -> None:
    own = states.deployment
    own.sql("ALTER DATABASE postgres SET default_transaction_read_only = on")
    own.end_backends()
    states.expect("read-only", states.write(), 503, "read-only", retry=True)
    read = states.application.ask("GET", "/api/v1/users/me", user=states.person)
    states.expect("reading while read-only", read, 200)
    with own.connect() as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
    own.end_backends()
    states.recovered("read-only")


def _disk_full(states: States) -> None:
    for kind, when in (("", ""), ("CONSTRAINT", "DEFERRABLE INITIALLY DEFERRED")):
        states.deployment.sql(TRIGGER.format(fault=FULL, kind=kind, when=when))
        what = "disk full at COMMIT" if kind else "disk full"
        states.expect(what, states.write(), 503, "database-unavailable", retry=True)
        states.deployment.sql("DROP TRIGGER full_disk ON posts")
    states.recovered("disk full")


def _without_rights(states: States) -> None:
    states.deployment.sql("REVOKE INSERT ON posts FROM app_caller")
    answer = states.write()
    states.expect("a role without rights", answer, 500, "", retry=False)
    states.row.count(b"posts" not in answer.content.replace(b"/api/v1/posts", b""), f"it tells: {answer}")
    states.deployment.sql("GRANT INSERT ON posts TO app_caller")
    states.recovered("rights")


def _out_of_connections(states: States) -> None:
    own = states.deployment
    with ExitStack() as stack:
        own.end_backends()
        try:
            while True:
                stack.enter_context(own.connect())
        except psycopg.OperationalError as error:
            states.row.count("too many clients" in str(error), error)
        states.expect("out of connections", states.write(), 503, "database-unavailable", retry=True)
    states.recovered("out of connections")


def _shutting_down(states: States) -> None:
    own = states.deployment
    own.end_backends()
    data = own.servers.postgres.places.data
    with own.connect():
        # Open connections stay, and new ones are refused.
        os.kill(int((data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGTERM)
        states.expect("shutting down", states.write(), 503, "database-unavailable", retry=True)
    until(lambda: not own.servers.postgres.is_running())
    states.expect("down", states.write(), 503, "database-unavailable", retry=True)


def _starting_up(states: States) -> None:
    """A standby that takes no queries says what a server says while it starts."""
    postgres = states.deployment.servers.postgres
    data = postgres.places.data
    configuration = (data / "postgresql.conf").read_text()
    (data / "postgresql.conf").write_text(f"{configuration}\nhot_standby = off\n")
    (data / "standby.signal").touch()
    give(data, postgres.process_user)
    postgres.start()
    states.expect("starting up", states.write(), 503, "database-unavailable", retry=True)
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(states.write)
        postgres.stop()
        (data / "standby.signal").unlink()
        (data / "postgresql.conf").write_text(configuration)
        postgres.start()
        # It came while the server was starting: served if that took no longer than the deadline.
        states.row.count(waiting.result().status in {201, 503}, waiting.result())
    states.recovered("starting up")
