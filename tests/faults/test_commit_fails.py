"""COMMIT fails after the route returned: never a 2xx."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Application, Deployment
    from tests.faults.promises import Row
    from tests.onetrip.fault_proxy import Proxy

# Checks that only the COMMIT runs, and the answer to the client.
REFUSE = "RAISE EXCEPTION 'taken' USING ERRCODE = 'unique_violation'"
DIE = "PERFORM pg_terminate_backend(pg_backend_pid())"
DEFERRED = """
CREATE OR REPLACE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN IF NEW.title LIKE 'fails%' THEN {fault}; END IF; RETURN NULL; END $$;
DROP TRIGGER IF EXISTS at_commit ON posts;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON posts
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit();
"""


@pytest.mark.parametrize(
    ("name", "fault", "statuses"),
    [("commit-deferred", REFUSE, {409}), ("commit-killed", DIE, {503, 504})],
    ids=["deferred", "killed"],
)
def test_a_commit_that_fails_is_never_a_2xx(
    deployment: Deployment,
    application: Application,
    rows: Rows,
    name: str,
    fault: str,
    statuses: set[int],
) -> None:
    """A failed COMMIT is reported whatever the route returned; nothing is stored, the next request works."""
    _fail(deployment, application, rows(name, 200, 20), fault, statuses)


def test_a_commit_that_fails_is_never_a_2xx_on_lambda(
    deployment: Deployment, network: Proxy, rows: Rows
) -> None:
    """The same in the packaged function."""
    row = rows("commit-lambda", 200, 10)
    with deployment.function(network.port, REQUEST_TIMEOUT_SECONDS="5") as function:
        half = row.of // 2
        _fail(deployment, function, row, REFUSE, {409}, half)
        _fail(deployment, function, row, DIE, {503, 504}, half)
    row.check()


def _fail(
    deployment: Deployment,
    application: Application,
    row: Row,
    fault: str,
    statuses: set[int],
    count: int | None = None,
) -> None:
    deployment.sql(DEFERRED.format(fault=fault))
    (person,) = deployment.people()
    for number in range(count or row.of):
        answer = application.ask("POST", "/api/v1/posts", _post(f"fails {number}"), user=person)
        row.count(answer.status in statuses, answer)
    fine = application.ask("POST", "/api/v1/posts", _post("fine"), user=person)
    assert fine.status == 201, fine
    assert deployment.sql("SELECT title FROM posts WHERE author_id = %s", person) == [("fine",)]
    if count is None:
        row.check()


def _post(title: str) -> dict[str, str]:
    return {"title": title, "content": "x"}
