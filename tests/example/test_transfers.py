"""Money moves once, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.application import create_app
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings
from tests.example.conftest import AsUser, Make, authorization
from tests.onetrip.assertions import assert_problem
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers

ACCOUNTS = "/api/v1/accounts"
TRANSFERS = "/api/v1/transfers"
Open = Callable[..., int]


@pytest.fixture
def open_account(client: TestClient, ada: dict[str, Any]) -> Open:  # noqa: ARG001  (whose they are)
    """Open an account of Ada's, or of the given client's user; return its id."""

    def open_one(balance: str = "0.00", owner: TestClient | None = None) -> int:
        response = (owner or client).post(ACCOUNTS, json={"name": "a", "balance": balance})
        assert response.status_code == 201, response.text
        number: int = response.json()["id"]
        return number

    return open_one


def _move(client: TestClient, source: int, target: int, amount: str, key: str | None = None) -> Any:
    body = {"from_account_id": source, "to_account_id": target, "amount": amount}
    return client.post(TRANSFERS, json=body, headers={"Idempotency-Key": key} if key else {})


def _balances(client: TestClient) -> dict[int, str]:
    return {account["id"]: account["balance"] for account in client.get(ACCOUNTS).json()["items"]}


@pytest.mark.parametrize("amount", ["0.01", "12.50", "99.99", "100.00"])
def test_a_transfer_moves_exactly_its_amount(client: TestClient, open_account: Open, amount: str) -> None:
    """Both balances change by it, to the cent, and the transfer is found at its location."""
    source, target = open_account("100.00"), open_account("0.10")
    response = _move(client, source, target, amount)
    assert response.status_code == 201, response.text
    assert _balances(client) == {
        source: str(Decimal("100.00") - Decimal(amount)),
        target: str(Decimal("0.10") + Decimal(amount)),
    }
    assert response.json()["amount"] == amount
    assert client.get(response.headers["location"]).json() == response.json()
    assert client.get(TRANSFERS).json()["items"] == [response.json()]


def test_cents_add_up(client: TestClient, open_account: Open) -> None:
    """Sums are exact where floats are not: ten times ten cents are a unit."""
    source, target = open_account("1.00"), open_account()
    for _ in range(10):
        assert _move(client, source, target, "0.10").status_code == 201
    assert _balances(client) == {source: "0.00", target: "1.00"}


def test_more_than_there_is_moves_nothing(client: TestClient, open_account: Open) -> None:
    """409, no transfer, and the key can be used once there is enough."""
    source, target = open_account("5.00"), open_account("10.00")
    assert_problem(_move(client, source, target, "5.01", "k"), 409)
    assert _balances(client) == {source: "5.00", target: "10.00"}
    assert client.get(TRANSFERS).json()["items"] == []
    assert _move(client, target, source, "1.00").status_code == 201
    assert _move(client, source, target, "5.01", "k").status_code == 201


@pytest.mark.parametrize(
    "amount", ["0", "0.00", "-1.00", "1.001", "1e2", "NaN", "Infinity", "", 1.5, 0, -1, True]
)
def test_an_amount_that_is_none_is_refused(client: TestClient, open_account: Open, amount: Any) -> None:
    """More than nothing, in whole cents, and never a float."""
    source, target = open_account("5.00"), open_account()
    assert_problem(_move(client, source, target, amount), 422, "invalid-request")
    assert _balances(client)[source] == "5.00"


def test_between_people_money_goes_one_way(
    client: TestClient, open_account: Open, make_user: Make, as_user: AsUser
) -> None:
    """Anyone may pay into another's account and none may take from it; both see the transfer."""
    grace, mary = as_user(make_user("grace")), as_user(make_user("mary"))
    mine, hers = open_account("5.00"), open_account("5.00", grace)
    paid = _move(client, mine, hers, "2.00")
    assert paid.status_code == 201
    assert (_balances(client), _balances(grace)) == ({mine: "3.00"}, {hers: "7.00"})
    assert grace.get(f"{TRANSFERS}/{paid.json()['id']}").json() == paid.json()
    assert_problem(mary.get(f"{TRANSFERS}/{paid.json()['id']}"), 404)
    taken, absent = _move(client, hers, mine, "1.00"), _move(client, 4711, mine, "1.00")
    assert assert_problem(taken, 422, "missing-reference").keys() == assert_problem(absent, 422).keys()
    assert_problem(_move(client, mine, 4711, "1.00"), 422, "missing-reference")
    assert_problem(client.get(f"{ACCOUNTS}/{hers}"), 404)
    assert (_balances(client), _balances(grace)) == ({mine: "3.00"}, {hers: "7.00"})


def test_a_key_used_again_gets_the_same_answer(client: TestClient, open_account: Open) -> None:
    """The same key and body: the same transfer, byte for byte, even when no money is left for another."""
    source, target = open_account("5.00"), open_account()
    first = _move(client, source, target, "5.00", "k")
    again = _move(client, source, target, "5.00", "k")
    assert (again.status_code, again.content) == (first.status_code, first.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert _balances(client) == {source: "0.00", target: "5.00"}


def test_a_key_used_for_something_else_is_422(client: TestClient, open_account: Open) -> None:
    """The same key with another body moves nothing, whichever part differs."""
    source, target, third = open_account("5.00"), open_account("5.00"), open_account()
    assert _move(client, source, target, "1.00", "k").status_code == 201
    for other in ((source, target, "1.01"), (source, third, "1.00"), (target, source, "1.00")):
        assert_problem(_move(client, *other, "k"), 422)
    assert _balances(client) == {source: "4.00", target: "6.00", third: "0.00"}


def test_a_key_is_its_owners(
    client: TestClient, open_account: Open, make_user: Make, as_user: AsUser
) -> None:
    """Two people who make up the same key do not meet."""
    grace = as_user(make_user("grace"))
    mine, hers = open_account("5.00"), open_account("5.00", grace)
    assert _move(client, mine, hers, "1.00", "k").status_code == 201
    assert _move(grace, hers, mine, "2.00", "k").status_code == 201
    assert (_balances(client), _balances(grace)) == ({mine: "6.00"}, {hers: "4.00"})


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "\x7f", "é".encode().decode("latin-1")])
def test_a_key_that_is_none_is_refused(client: TestClient, open_account: Open, key: str) -> None:
    """A key is 1 to 255 visible ASCII characters; anything else is refused rather than ignored."""
    source, target = open_account("5.00"), open_account()
    body = {"from_account_id": source, "to_account_id": target, "amount": "1.00"}
    response = client.post(TRANSFERS, json=body, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert_problem(response, 422, "invalid-request")
    assert _balances(client)[source] == "5.00"


def test_one_key_at_once_has_one_effect(client: TestClient, open_account: Open) -> None:
    """Eight who send the same together get the same answer, and the money moves once."""
    source, target = open_account("5.00"), open_account()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _move(client, source, target, "1.00", "k"), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert _balances(client) == {source: "4.00", target: "1.00"}


def test_many_at_once_neither_lose_nor_make_money(client: TestClient, open_account: Open) -> None:
    """Transfers in a ring, in both directions, end without a deadlock, an overdraft or a lost cent."""
    ring = [open_account("1.00") for _ in range(3)]
    pairs = [(a, b) for a in ring for b in ring if a != b] * 8
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pair: _move(client, pair[0], pair[1], "0.40"), pairs))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["detail"] for answer in answers if answer.status_code == 409} <= {
        "There is not enough money in the account."
    }
    balances = [Decimal(balance) for balance in _balances(client).values()]
    assert sum(balances) == Decimal("3.00")
    assert min(balances) >= 0


def test_an_account_closes_when_it_is_empty(client: TestClient, open_account: Open) -> None:
    """409 while it holds money; then 204, and its transfers stay with the other side."""
    source, target = open_account("5.00"), open_account()
    assert_problem(client.delete(f"{ACCOUNTS}/{source}"), 409, "money-in-account")
    assert _move(client, source, target, "5.00").status_code == 201
    assert client.delete(f"{ACCOUNTS}/{source}").status_code == 204
    assert_problem(client.get(f"{ACCOUNTS}/{source}"), 404)
    (transfer,) = client.get(TRANSFERS).json()["items"]
    assert (transfer["from_account_id"], transfer["to_account_id"]) == (None, target)


def test_a_payment_keeps_nobody_from_leaving(
    client: TestClient, ada: dict[str, Any], open_account: Open, make_user: Make, as_user: AsUser
) -> None:
    """A cent that was sent unasked goes back; then the person goes, and the payer keeps the record."""
    user = make_user("victim")
    victim = as_user(user)
    mine, theirs = open_account("1.00"), open_account("0.00", victim)
    assert _move(client, mine, theirs, "0.01").status_code == 201
    assert_problem(victim.delete("/api/v1/users/me"), 409, "money-in-account")
    assert _move(victim, theirs, mine, "0.01").status_code == 201
    assert victim.delete("/api/v1/users/me").status_code == 204
    transfers = client.get(TRANSFERS).json()["items"]
    assert [{transfer["from_account_id"], transfer["to_account_id"]} for transfer in transfers] == [
        {mine, None}
    ] * 2
    assert ada["id"] != user["id"]


def test_an_administrator_erases_a_person_with_their_money(
    open_account: Open, make_user: Make, as_user: AsUser
) -> None:
    """A request for erasure needs no SQL."""
    user = make_user("victim")
    open_account("1.00", as_user(user))
    root = as_user(make_user("root", role="admin"))
    assert root.delete(f"/api/v1/users/{user['id']}").status_code == 204


def test_account_numbers_can_be_neither_counted_nor_guessed(open_account: Open) -> None:
    """They are random, far apart, and exact in every client's JSON."""
    ids = [open_account() for _ in range(5)]
    assert len({number >> 30 for number in ids}) == 5
    assert max(ids) < 2**53


def test_nobody_fills_anothers_account(client: TestClient, open_account: Open) -> None:
    """Initial balances are bounded, and an account can hold more than all of them."""
    refused = client.post(ACCOUNTS, json={"name": "x", "balance": "1000000.01"})
    assert_problem(refused, 422, "invalid-request")
    target = open_account("1000000.00")
    for _ in range(3):
        assert _move(client, open_account("1000000.00"), target, "1000000.00").status_code == 201
    assert _balances(client)[target] == "4000000.00"


@pytest.fixture
def cut_off(make_settings: Callable[..., Settings], servers: Servers, route: str, app: FastAPI) -> Any:
    """A client whose connections to the database lead through a proxy, and that proxy."""
    assert app
    settings = make_settings()
    upstream = settings.application_url
    with Proxy((str(upstream.host), int(upstream.port or 0))).running() as proxy:
        urls = {
            "DATABASE_URL": f"postgresql://app_caller@127.0.0.1:{proxy.port}/{upstream.database}",
            "DATABASE_URL_UNPOOLED": f"postgresql://app_caller@127.0.0.1:{proxy.port}/{upstream.database}",
        }
        database = Database(make_settings(**urls, REQUEST_TIMEOUT_SECONDS=2))
        with TestClient(create_app(database), raise_server_exceptions=False) as client:
            yield client, proxy
        database.close()
    assert servers
    assert route


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost", [b"INSERT INTO idempotency_keys", b"make_transfer", b"UPDATE idempotency_keys", b"COMMIT"]
)
def test_cut_off_anywhere_and_sent_again_it_moves_once(
    client: TestClient, open_account: Open, ada: dict[str, Any], cut_off: Any, lost: bytes
) -> None:
    """Whichever answer of the database's is lost, sending the same again leaves one transfer."""
    through, proxy = cut_off
    through.headers.update(authorization(ada["id"]))
    source, target = open_account("5.00"), open_account()
    key = uuid4().hex
    assert through.get(ACCOUNTS).status_code == 200
    with proxy.unanswered(lost):
        first = _move(through, source, target, "1.00", key)
    assert first.status_code in {201, 503, 504}, first.text
    # A hanging statement is ended by the server's own timeouts, or by the wait here.
    again = _move(client, source, target, "1.00", key)
    assert again.status_code == 201, again.text
    assert _balances(client) == {source: "4.00", target: "1.00"}
    assert len(client.get(TRANSFERS).json()["items"]) == 1


def test_a_killed_backend_is_not_noticed(
    client: TestClient, open_account: Open, servers: Servers, database: Database
) -> None:
    """A connection that dies while a transfer waits for its lock: it is done again, once."""
    source, target = open_account("5.00"), open_account()
    name = str(database.url.database)
    arguments: Any = servers.url("direct", name).connect_arguments()
    with psycopg.connect(**arguments) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT 1 FROM accounts FOR UPDATE")
        waiting = pool.submit(_move, client, source, target, "1.00", "k")
        kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
        while not servers.administer(kill, name):
            assert not waiting.done(), waiting.result().text
        holder.rollback()
        answer = waiting.result()
    assert answer.status_code == 201, answer.text
    assert _balances(client) == {source: "4.00", target: "1.00"}
