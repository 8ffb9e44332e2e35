"""A person's story through the client that was generated from the API's description; the URL is the argument.

It is checked by mypy together with the client, and imports nothing else of this repository.
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import TypeVar

from client import AuthenticatedClient, Client
from client.api.accounts import open_account, read_account
from client.api.auth import log_in, register
from client.api.tasks import change_task, create_task, list_tasks, read_task
from client.api.transfers import make_transfer
from client.models import (
    AccountIn,
    Credentials,
    ListTasksSort,
    Problem,
    Registration,
    Status,
    TaskChange,
    TaskIn,
    Token,
    TransferIn,
    UserOut,
)
from client.types import Response

T = TypeVar("T")
PASSWORD = "difference engine"


def granted(response: Response[T | Problem], status: HTTPStatus) -> T:
    """The body of a success, by the type that the description gives it."""
    body = response.parsed
    assert response.status_code is status, response.content
    assert body is not None
    assert not isinstance(body, Problem), body
    return body


def refused(response: Response[T | Problem], status: HTTPStatus) -> Problem:
    """The problem, whichever the operation."""
    assert response.status_code is status, response.content
    assert isinstance(response.parsed, Problem)
    assert response.parsed.status == status
    return response.parsed


def logged_in(url: str) -> AuthenticatedClient:
    """Register, and log in for a token."""
    anyone = Client(base_url=url)
    new = Registration(username="ada", email="ada@example.com", password=PASSWORD)
    user: UserOut = granted(register.sync_detailed(client=anyone, body=new), HTTPStatus.CREATED)
    form = Credentials(username=user.email, password=PASSWORD)
    token = log_in.sync(client=anyone, body=form)
    # The one operation with errors of two kinds: OAuth's are its own.
    assert isinstance(token, Token), token
    lifetime: int = token.expires_in
    assert lifetime > 0
    return AuthenticatedClient(base_url=url, token=token.access_token)


def do_a_task(client: AuthenticatedClient) -> None:
    """Create tasks, find one by a filter, change it as it was read, and not a second time."""
    for title, tags in (("Write", ["home"]), ("Read", ["away"])):
        new = TaskIn(title=title, tags=tags)
        granted(create_task.sync_detailed(client=client, body=new), HTTPStatus.CREATED)
    backwards = list_tasks.sync_detailed(client=client, sort=ListTasksSort.TITLE_DESCENDING)
    assert [task.title for task in granted(backwards, HTTPStatus.OK).items] == ["Write", "Read"]
    found = list_tasks.sync_detailed(client=client, status=Status.TODO, tag="home")
    (task,) = granted(found, HTTPStatus.OK).items
    assert (task.title, task.status, task.completed_at) == ("Write", Status.TODO, None)
    tag = read_task.sync_detailed(task.id, client=client).headers["ETag"]
    done = TaskChange(status=Status.DONE)
    first = change_task.sync_detailed(task.id, client=client, body=done, if_match=tag)
    changed = granted(first, HTTPStatus.OK)
    assert changed.completed_at is not None
    assert changed.completed_at.tzinfo is not None
    assert first.headers["ETag"] != tag
    late = change_task.sync_detailed(task.id, client=client, body=done, if_match=tag)
    assert refused(late, HTTPStatus.PRECONDITION_FAILED).type_ == "urn:problem:precondition-failed"


def move_money(client: AuthenticatedClient) -> None:
    """Transfer twice with one key, which moves the money once; more than there is, is refused."""
    full, empty = (
        granted(open_account.sync_detailed(client=client, body=new), HTTPStatus.CREATED)
        for new in (AccountIn(name="full", balance="100.00"), AccountIn(name="empty"))
    )
    asked = TransferIn(from_account_id=full.id, to_account_id=empty.id, amount="12.50")
    first, second = (
        make_transfer.sync_detailed(client=client, body=asked, idempotency_key="a-key-of-mine") for _ in "12"
    )
    assert granted(first, HTTPStatus.CREATED) == granted(second, HTTPStatus.CREATED)
    assert second.headers["Idempotency-Replayed"] == "true"
    left = granted(read_account.sync_detailed(full.id, client=client), HTTPStatus.OK)
    balance: str = left.balance
    assert balance == "87.50"
    asked.amount = 1000
    problem = refused(make_transfer.sync_detailed(client=client, body=asked), HTTPStatus.CONFLICT)
    assert problem.instance == "/api/v1/transfers"


def send_what_is_invalid(client: AuthenticatedClient) -> None:
    """The problem says which part of the request is invalid."""
    answer = create_task.sync_detailed(client=client, body=TaskIn(title=""))
    problem = refused(answer, HTTPStatus.UNPROCESSABLE_ENTITY)
    assert problem.errors
    assert [part.loc for part in problem.errors] == [["body", "title"]]


if __name__ == "__main__":
    with logged_in(sys.argv[1]) as ada:
        do_a_task(ada)
        move_money(ada)
        send_what_is_invalid(ada)
    print("told")
