"""The connection is cut after a random number of bytes of a transfer, and the client sends it again."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from tests.fault_proxy import Proxy
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Answer, Application, Deployment

TRIES = 8


def test_a_transfer_cut_off_anywhere_and_sent_again_has_one_effect(
    deployment: Deployment, application: Application, network: Proxy, rows: Rows, chance: random.Random
) -> None:
    """Wherever the cut falls, from BEGIN to behind the COMMIT: with its key it is done once."""
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
    keys = []
    for _ in range(row.of):
        key = str(UUID(int=chance.getrandbits(128)))
        keys.append(key)
        with network.cut_after(chance.randrange(size + 1)):
            answer = send(key)
        first_answers[answer.status] += 1
        for _ in range(TRIES):
            if answer.status == 201:
                break
            assert answer.status in {503, 504}, answer
            answer = send(key)
        assert answer.status == 201, answer
    stored = dict(deployment.sql("SELECT idempotency_key, count(*) FROM transfers GROUP BY 1"))
    for key in keys:
        row.count(stored.get(key) == 1, f"{stored.get(key)} effects")
    balances = dict(deployment.sql("SELECT id, balance FROM accounts"))
    row.note = f"first answers: {', '.join(f'{n:,} x {s}' for s, n in sorted(first_answers.items()))}"
    assert balances == {source: Decimal("8.00"), target: Decimal(row.of + 2)}
    row.check()
