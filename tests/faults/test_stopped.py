"""A process is stopped for longer than its connections may be kept, and they are gone meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Application, Deployment
    from tests.onetrip.fault_proxy import Proxy

RECYCLE_SECONDS = 30


def test_a_stopped_process_goes_on_as_if_nothing_was(
    deployment: Deployment, network: Proxy, rows: Rows
) -> None:
    """Servers and functions alike: the first request after the stop succeeds."""
    row = rows("stopped", 20, 4)
    row.note = "half of them functions on Lambda"
    (person,) = deployment.people()
    variables = {"DATABASE_POOL_RECYCLE": str(RECYCLE_SECONDS), "REQUEST_TIMEOUT_SECONDS": "10"}

    def ask(application: Application) -> str:
        answer = application.ask("GET", "/api/v1/users/me", user=person)
        return "" if answer.status == 200 else str(answer)

    with ExitStack() as stack:
        doors = [deployment.through(("uvicorn", "lambda")[number % 2]) for number in range(row.of)]
        processes = [stack.enter_context(door(network.port, **variables)) for door in doors]
        assert [ask(process) for process in processes] == [""] * row.of
        with ExitStack() as stopped:
            for process in processes[::2]:
                # A function on Lambda is stopped already, between its events.
                stopped.enter_context(process.runtime.frozen())
            network.forget()
            deployment.end_backends()
            # The passing of time is the fault.
            Event().wait(RECYCLE_SECONDS + 1)
        with ThreadPoolExecutor(4) as clients:
            for said in clients.map(ask, processes):
                row.count(not said, said)
    row.check()
