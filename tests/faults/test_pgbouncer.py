"""PgBouncer is reloaded, paused, restarted, starved: answers stay bounded, and nothing needs a restart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg

from tests.faults.deployment import LATE_SECONDS, Answer, Deployment
from tests.onetrip import pgbouncer
from tests.onetrip.network import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.conftest import Rows
    from tests.faults.promises import Row
    from tests.onetrip.conftest import Certificates
    from tests.onetrip.servers import Servers

DEADLINE_SECONDS = 3
CROWD = 20


class Trial:
    """The application behind a pooler of its own, which is asked to do what operators do."""

    def __init__(self, deployment: Deployment, row: Row) -> None:
        self.pooler = deployment.servers.pooler
        self.row = row
        (self.person,) = deployment.people()
        self.stack = ExitStack()
        self.running = self.stack.enter_context(ExitStack())
        self.running.enter_context(pgbouncer.running(self.pooler))
        variables = {"REQUEST_TIMEOUT_SECONDS": str(DEADLINE_SECONDS)}
        self.application = self.stack.enter_context(deployment.serving(self.pooler.port, **variables))

    def ask(self, _: object = None) -> Answer:
        """A read."""
        return self.application.ask("GET", "/api/v1/users/me", user=self.person)

    def expect(self, what: str, answers: list[Answer], *statuses: int) -> None:
        """Count the step as kept if all answers are these and in time."""
        late = DEADLINE_SECONDS + LATE_SECONDS
        wrong = [str(one) for one in answers if one.status not in statuses or one.seconds > late]
        hasty = [one for one in answers if one.status == 503 and "retry-after" not in one.headers]
        wrong += [f"{one}, no Retry-After" for one in hasty]
        self.row.count(not wrong, f"{what}: {wrong[:2]}")

    def crowd(self, meanwhile: Callable[[], object] = lambda: None) -> list[Answer]:
        """The answers to many at once, while something else is done."""
        with ThreadPoolExecutor(CROWD) as clients:
            answers = [clients.submit(self.ask) for _ in range(CROWD)]
            meanwhile()
            return [answer.result() for answer in answers]


def test_what_operators_do_to_the_pooler_is_survived(
    own_servers: Servers, certificates: Certificates, rows: Rows
) -> None:
    """RELOAD, PAUSE, RECONNECT, a pool of one, `query_wait_timeout`, restart: one process serves on."""
    row = rows("pgbouncer", 10, 10)
    deployment = Deployment(own_servers, "postgres", certificates.authority, certificates.authority.absolute)
    trial = Trial(deployment, row)
    with trial.stack:
        trial.expect("before", [trial.ask()], 200)
        trial.expect("RELOAD", trial.crowd(lambda: trial.pooler.command("RELOAD")), 200)
        trial.expect("RECONNECT", trial.crowd(lambda: trial.pooler.command("RECONNECT")), 200)
        trial.pooler.command("PAUSE")
        trial.expect("PAUSE", [trial.ask()], 504)
        with ThreadPoolExecutor(1) as clients:
            waiting = clients.submit(trial.ask)
            until(lambda: any(pool["cl_waiting"] for pool in trial.pooler.show("POOLS")))
            trial.pooler.command("RESUME")
            trial.expect("RESUME", [waiting.result()], 200)
        _starve(trial)
        trial.running.close()
        # Refused until the deadline: there is no pooler.
        trial.expect("stopped", [trial.ask()], 503)
        trial.running.enter_context(pgbouncer.running(trial.pooler))
        trial.expect("restarted", [trial.ask(), *trial.crowd()], 200)
    row.check()


def _starve(trial: Trial) -> None:
    """One server connection for all, and then none, since another client holds it."""
    trial.pooler.command("SET default_pool_size = 1")
    trial.pooler.command("RECONNECT")
    trial.expect("pool of one", trial.crowd(), 200)
    trial.pooler.command("SET query_wait_timeout = 1")
    url = f"host=127.0.0.1 port={trial.pooler.port} user=postgres dbname=postgres sslmode=require"
    with psycopg.connect(url) as holder:
        holder.execute("SELECT 1")
        # Its refusal is tried again, and the deadline may come first.
        trial.expect("query_wait_timeout", [trial.ask()], 503, 504)
    trial.expect("released", [trial.ask()], 200)
