"""The connection is cut after a random number of bytes of a transfer, and the client sends it again."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Answer, Application, Deployment
    from tests.onetrip.fault_proxy import Proxy

TRIES = 8


def test_a_transfer_cut_off_anywhere_and_sent_again_has_one_effect(
    deployment: Deployment, application: Application, network: Proxy, rows: Rows, chance: random.Random
) -> None:
    """A cut at any byte, from BEGIN to after the COMMIT: with its key the work is done once."""
    row = rows("cut", 1_000, 60)
    (person,) = deployment.people()
    source, target = deployment.accounts(person, [f"{row.of + 10}.00", "0.00"])
    body = {"from_account_id": source, "to_account_id": target, "amount": "1.00"}

    def send(key: str) -> Answer:
        headers = {"Idempotency-Key": key}
        return application.ask("POST", "/api/v1/transfers", body, user=person, headers=headers)

    send("warm")
    before = network.bytes_passed
    assert send("measured").status == 201
    size = network.bytes_passed - before
    first_answers: Counter[int] = Counter()
    made = []
    for _ in range(row.of):
        key = str(UUID(int=chance.getrandbits(128)))
        with network.cut_after(chance.randrange(size + 1)):
            answer = send(key)
        first_answers[answer.status] += 1
        for _ in range(TRIES):
            if answer.status == 201:
                break
            assert answer.status in {503, 504}, answer
            answer = send(key)
        assert answer.status == 201, answer
        made.append(answer.json["id"])
    stored = [number for (number,) in deployment.sql("SELECT id FROM transfers")]
    # Two were made before anything was cut.
    assert len(stored) == len(made) + 2
    for number in made:
        row.count(stored.count(number) == 1, f"{stored.count(number)} effects")
    balances = dict(deployment.sql("SELECT id, balance FROM accounts"))
    row.note = f"first answers: {', '.join(f'{n:,} x {s}' for s, n in sorted(first_answers.items()))}"
    assert balances == {source: Decimal("8.00"), target: Decimal(row.of + 2)}
    row.check()


def test_a_read_cut_off_anywhere_is_not_noticed(
    deployment: Deployment, application: Application, network: Proxy, rows: Rows, chance: random.Random
) -> None:
    """Within TLS's handshake, the login, the question or a row of the answer: the client gets its rows."""
    row = rows("cut-read", 1_000, 80)
    (person,) = deployment.people()

    def read() -> Answer:
        return application.ask("GET", "/api/v1/users/me", user=person)

    def size(*, is_new: bool) -> int:
        """Return the bytes of a read, on a new connection or an old one."""
        read()
        if is_new:
            network.reset()
        before = network.bytes_passed
        assert read().status == 200
        return network.bytes_passed - before

    sizes = {is_new: size(is_new=is_new) for is_new in (True, False)}
    assert sizes[True] > sizes[False]
    cut = 0
    for _ in range(row.of):
        is_new = chance.random() < 0.7
        if is_new:
            network.reset()
        with network.cut_after(chance.randrange(sizes[is_new])) as was_cut:
            answer = read()
            cut += was_cut()
        row.count(answer.status == 200, answer)
    row.note = f"{cut:,} of them were cut"
    assert cut > row.of * 0.9
    row.check()
