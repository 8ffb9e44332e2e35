"""A bank under a network that breaks in turn: every read adds up, and money moves once or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING
from uuid import UUID

from tests.faults.promises import times

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Answer, Application, Deployment
    from tests.onetrip.fault_proxy import Proxy

ACCOUNTS, WORKERS = 8, 8
BALANCE = Decimal("100.00")
# The longest time between two faults, and the longest fault, in seconds.
CALM_SECONDS, FAULT_SECONDS = 0.4, 0.4


class Weather(Thread):
    """Breaks the network in turn, in all ways that a proxy knows, until it is told to stop."""

    def __init__(self, proxy: Proxy, chance: random.Random) -> None:
        super().__init__()
        self._proxy = proxy
        self._chance = chance
        self._over = Event()
        self.faults = 0

    def run(self) -> None:
        """Break and mend."""
        faults: list[Callable[[float], None]] = [
            self._latency,
            self._slices,
            self._reset,
            self._hang_up,
            self._cut,
            self._down,
            self._silence,
        ]
        while not self._over.wait(self._chance.uniform(0.1, CALM_SECONDS)):
            self._chance.choice(faults)(self._chance.uniform(0.05, FAULT_SECONDS))
            self.faults += 1

    def stop(self) -> None:
        """End it, with the network as it should be."""
        self._over.set()
        self.join()

    def _latency(self, seconds: float) -> None:
        self._proxy.latency_seconds = 0.02
        self._over.wait(seconds)
        self._proxy.latency_seconds = 0.0

    def _slices(self, seconds: float) -> None:
        self._proxy.slice_bytes = 100
        self._latency(seconds)
        self._proxy.slice_bytes = 0

    def _reset(self, _: float) -> None:
        self._proxy.reset()

    def _hang_up(self, _: float) -> None:
        self._proxy.hang_up()

    def _cut(self, seconds: float) -> None:
        with self._proxy.cut_after(self._chance.randrange(5_000)):
            self._over.wait(seconds)

    def _down(self, seconds: float) -> None:
        with self._proxy.down():
            self._proxy.reset()
            self._over.wait(seconds)

    def _silence(self, seconds: float) -> None:
        with self._proxy.silence():
            self._over.wait(seconds)


class Bank:
    """The accounts of one person, and what clients were told about them."""

    def __init__(self, application: Application, deployment: Deployment) -> None:
        self.application = application
        self.deployment = deployment
        (self.person,) = deployment.people()
        self.accounts = deployment.accounts(self.person, [str(BALANCE)] * ACCOUNTS)
        self.violations: list[str] = []
        self.made: list[int] = []
        self.read = 0
        self._lock = Lock()

    def act(self, chance: random.Random) -> None:
        """One request of either kind."""
        if chance.random() < 0.5:
            self._read()
        else:
            self._move(chance)

    def _read(self) -> None:
        answer = self.application.ask("GET", "/api/v1/accounts", user=self.person)
        if answer.status == 200:
            balances = [Decimal(account["balance"]) for account in answer.json["items"]]
            with self._lock:
                self.read += 1
                self._examine(balances, "a read")
        else:
            self._expect(answer)

    def _move(self, chance: random.Random) -> None:
        source, target = chance.sample(self.accounts, 2)
        amount = f"{chance.randint(1, 60)}.{chance.randint(0, 99):02}"
        body = {"from_account_id": source, "to_account_id": target, "amount": amount}
        key = {"Idempotency-Key": str(UUID(int=chance.getrandbits(128)))}
        answer = self.application.ask("POST", "/api/v1/transfers", body, user=self.person, headers=key)
        if answer.status == 201:
            with self._lock:
                self.made.append(answer.json["id"])
        else:
            self._expect(answer)

    def _expect(self, answer: Answer) -> None:
        if answer.status not in {409, 503, 504}:
            with self._lock:
                self.violations.append(f"an answer: {answer}")

    def _examine(self, balances: list[Decimal], what: str) -> None:
        if len(balances) != ACCOUNTS or sum(balances) != ACCOUNTS * BALANCE or min(balances) < 0:
            self.violations.append(f"{what}: {balances}")

    def settle(self) -> None:
        """Compare the stored rows with the answers, after the last request."""
        balances = self.deployment.sql("SELECT balance FROM accounts WHERE owner_id = %s", self.person)
        self._examine([row[0] for row in balances], "the end")
        stored = [
            row[0] for row in self.deployment.sql("SELECT id FROM transfers WHERE owner_id = %s", self.person)
        ]
        if lost := set(self.made) - set(stored):
            self.violations.append(f"acknowledged and not stored: {lost}")
        if len(self.made) != len(set(self.made)):
            self.violations.append("one transfer was acknowledged to two clients")
        moved = """
            SELECT a.id FROM accounts a WHERE owner_id = %s AND balance <> %s
                - coalesce((SELECT sum(amount) FROM transfers WHERE from_account_id = a.id), 0)
                + coalesce((SELECT sum(amount) FROM transfers WHERE to_account_id = a.id), 0)
        """
        if wrong := self.deployment.sql(moved, self.person, BALANCE):
            self.violations.append(f"balances that their transfers do not explain: {wrong}")


def test_every_read_adds_up_while_the_network_breaks(
    deployment: Deployment, network: Proxy, rows: Rows, chance: random.Random
) -> None:
    """In no run does a read show money lost, made or owed, nor does an acknowledged transfer go missing."""
    row = rows("bank", 5, 1)
    requests = times(5_000, 600)
    read = made = faults = 0
    for _ in range(row.of):
        with ExitStack() as stack:
            application = stack.enter_context(deployment.serving(network.port, REQUEST_TIMEOUT_SECONDS="3"))
            bank = Bank(application, deployment)
            chances = [random.Random(chance.random()) for _ in range(WORKERS)]
            weather = Weather(network, random.Random(chance.random()))
            weather.start()
            stack.callback(weather.stop)

            def work(own: random.Random, bank: Bank = bank) -> None:
                for _ in range(requests // WORKERS):
                    bank.act(own)

            with ThreadPoolExecutor(WORKERS) as workers:
                list(workers.map(work, chances))
            weather.stop()
            deployment.end_backends()
            bank.settle()
            row.count(not bank.violations, bank.violations)
            read, made, faults = read + bank.read, made + len(bank.made), faults + weather.faults
            assert bank.read
            assert bank.made
    row.note = (
        f"runs of {requests:,} requests; {read:,} reads and {made:,} transfers succeeded "
        f"through {faults:,} faults"
    )
    row.check()
