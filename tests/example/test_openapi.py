"""The API's description says what the API does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from lib.onetrip.fastapi.problem_details import Problem
from tests.onetrip.assertions import ALLOWED, REQUIRED

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

# POST requests that create no resource with a URL of its own.
ASKING = {"POST /api/v1/auth/token", "POST /api/v1/tasks/complete"}
# POST requests without a response body.
TELLING = {"POST /api/v1/users/me/password", "POST /api/v1/users/{user_id}/password"}
# Nothing here asks for a connection.
pytestmark = pytest.mark.parametrize("route", ["pooled"])


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    """The description, as a client would get it."""
    document: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


def _everywhere(node: object) -> Iterator[tuple[str, object]]:
    """Every key and value, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield name, value
            yield from _everywhere(value)
    elif isinstance(node, list):
        for value in node:
            yield from _everywhere(value)


def test_the_description_is_served_with_its_page(client: TestClient, document: dict[str, Any]) -> None:
    """Outside production anyone can read it, as JSON and as a page, and it is made without a warning."""
    assert client.get("/openapi.json").json() == document
    assert client.get("/docs").status_code == 200
    assert document["openapi"].startswith("3.1")


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """No `$ref` hangs in the air, and no schema is left that nothing refers to."""
    references = {str(value) for name, value in _everywhere(document) if name == "$ref"}
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references == schemas


@pytest.mark.slow
def test_every_operation_has_an_id_of_its_own_and_a_sentence(document: dict[str, Any]) -> None:
    """A generated client gets distinct names, a reader an explanation."""
    operations = dict(_operations(document))
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations) >= 15
    assert [what for what, operation in operations.items() if not operation["description"].strip()] == []


def test_every_error_is_described_as_a_problem(document: dict[str, Any]) -> None:
    """Errors have one media type and one schema, and FastAPI's own is nowhere to be seen."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for what, operation in _operations(document):
        errors = {code: answer for code, answer in operation["responses"].items() if code[0] != "2"}
        assert errors.keys() >= {"4XX", "5XX"}, what
        # A password grant that fails does so in OAuth's words.
        refused = errors.pop("400", None) if what == "POST /api/v1/auth/token" else None
        assert refused is None or "application/json" in refused["content"], what
        assert all(answer["content"] == problem for answer in errors.values()), what
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_problem_s_schema_is_the_shape_that_is_answered(
    client: TestClient, document: dict[str, Any]
) -> None:
    """Required members are always present, and present members are described."""
    schema = document["components"]["schemas"]["Problem"]
    assert set(schema["required"]) == REQUIRED
    # `checks` is an addition of readiness alone.
    assert schema["properties"].keys() == ALLOWED - {"checks"}
    for path in ("/nowhere", "/api/v1/users"):
        body = client.get(path).json()
        assert Problem.model_validate(body).model_dump(exclude_none=True) == body


@pytest.mark.parametrize("name", ["UserChange", "TaskChange", "PostChange"])
def test_a_change_requires_nothing_and_pretends_no_default(document: dict[str, Any], name: str) -> None:
    """A member that is not sent stays unchanged, so it has no default; null is offered where it is taken."""
    schema = document["components"]["schemas"][name]
    assert "required" not in schema
    assert [
        field for field, value in schema["properties"].items() if "default" in dict(_everywhere(value))
    ] == []
    nullable = [field for field, value in schema["properties"].items() if "null" in json.dumps(value)]
    assert nullable == (["due_at"] if name == "TaskChange" else [])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("name", "required", "defaults"),
    [
        ("Registration", {"username", "email", "password"}, {}),
        ("PostIn", {"title", "content"}, {}),
        ("TransferIn", {"from_account_id", "to_account_id", "amount"}, {}),
        ("AccountIn", {"name"}, {"balance": "0.00"}),
        (
            "TaskIn",
            {"title"},
            {"description": "", "status": "todo", "priority": "medium", "tags": []},
        ),
    ],
)
def test_what_is_created_has_the_defaults_that_are_described(
    document: dict[str, Any], name: str, required: set[str], defaults: dict[str, object]
) -> None:
    """Mandatory members are required; the others have their default."""
    schema = document["components"]["schemas"][name]
    assert set(schema["required"]) == required
    described = {field: value.get("default") for field, value in schema["properties"].items()}
    described = {field: default for field, default in described.items() if default is not None}
    assert described == defaults


def test_every_success_that_has_a_body_is_described(document: dict[str, Any]) -> None:
    """201 for what is created, 204 without a body for what is deleted, 200 for the rest."""
    wanted = {"POST": "201", "DELETE": "204", **dict.fromkeys(TELLING, "204")}
    for what, operation in _operations(document):
        method = what.partition(" ")[0]
        (success,) = [code for code in operation["responses"] if code[0] == "2"]
        assert success == ("200" if what in ASKING else wanted.get(what, wanted.get(method, "200"))), what
        assert ("content" in operation["responses"][success]) == (success != "204"), what


def test_a_generated_client_gets_names_that_people_would_give(document: dict[str, Any]) -> None:
    """An operation is called as its route's function is, and every tag has a sentence."""
    names = {operation["operationId"] for _, operation in _operations(document)}
    assert names >= {
        "list_tasks",
        "create_task",
        "read_task",
        "change_task",
        "delete_task",
        "log_in",
        "read_me",
    }
    assert all(re.fullmatch("[a-z_]+", name) for name in names)
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    used = {tag for what, operation in _operations(document) if "/api/" in what for tag in operation["tags"]}
    assert used == described


def test_the_headers_that_are_described_are_sent(
    client: TestClient, ada: dict[str, Any], document: dict[str, Any]
) -> None:
    """The members that a typed client reads are there: for a new row, one row, a list, a refusal."""
    assert ada
    made = client.post("/api/v1/tasks", json={"title": "x"}, headers={"Idempotency-Key": "k"})
    answers = {
        ("/api/v1/tasks", "post"): made,
        ("/api/v1/tasks/{task_id}", "get"): client.get(made.headers["location"]),
        ("/api/v1/tasks", "get"): client.get("/api/v1/tasks"),
        ("/api/v1/users/me", "get"): client.get("/api/v1/users/me", headers={"Authorization": "Bearer x"}),
    }
    for (path, method), answer in answers.items():
        described = document["paths"][path][method]["responses"][str(answer.status_code)]["headers"]
        sent = {name for name in described if name in answer.headers}
        assert set(described) - sent <= {"Idempotency-Replayed"}, path
