"""Invalid input is answered with a 4xx problem; the cases come from the API's own description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.onetrip.assertions import assert_problem

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

# Refused requests never reach a connection, so pooled or direct makes no difference.
pytestmark = [pytest.mark.parametrize("route", ["pooled"]), pytest.mark.usefixtures("root")]

CANARY = "canary7f3a"
# Routes that take a form, as OAuth2 demands: refused as invalid too, but parsed differently.
FORM = "/api/v1/auth/token"
JSON = "application/json"
# JSON's numbers as text: some are more than Python writes or reads.
WILD_NUMBERS = (
    "-1",
    "1.5",
    "1e400",
    "-1e400",
    "1e-400",
    "NaN",
    "Infinity",
    "-Infinity",
    str(2**63),
    str(2**64),
    str(-(2**63) - 1),
    "9" * 400,
    "9" * 5000,
    "-" + "9" * 5000,
)
WRONG_IN_JSON: dict[str, tuple[object, ...]] = {
    "string": (0, 1, 1.5, True, [], {}, [CANARY], {"a": CANARY}),
    "integer": (CANARY, "1", "", 1.5, True, [], [1], {}),
    "boolean": (CANARY, "true", "", 0, 1, 1.0, [], {}),
    "array": (CANARY, "", 0, True, {}, [0], [None], [[]], {"a": CANARY}),
    "decimal": (CANARY, "", True, [], {}, 1.5, "1e3", "-1", "+1", "1.234", " 1", "1_0", "٣", "NaN", "00.01"),
}
WRONG_IN_URL: dict[str, tuple[str, ...]] = {
    "string": (),
    "integer": (CANARY, "1.0", "1.5", "1e3", "+1", " 1", "1_0", "0x1", "true", "null", "NaN", "٣", "[1]"),
    "boolean": (CANARY, "2", "maybe"),
}


@dataclass(frozen=True)
class Field:
    """A parameter or a member of a body: where it goes, its name, and what may be in it."""

    where: str
    name: str
    required: bool
    schema: dict[str, Any]
    nullable: bool
    # Of a list of objects, one that is taken.
    item: Any = None

    @property
    def type(self) -> str:
        kind: str = self.schema["type"]
        return kind

    @property
    def is_free_text(self) -> bool:
        """Return True if it takes texts that are neither listed nor of a format."""
        return self.type == "string" and not {"enum", "const", "format"} & self.schema.keys()

    @property
    def sample(self) -> Any:
        """A value that is taken."""
        if "examples" in self.schema:
            return self.schema["examples"][0]
        if "enum" in self.schema or "const" in self.schema:
            return self.schema.get("enum", [self.schema.get("const")])[0]
        if self.type == "array":
            return [self.item] if self.schema.get("minItems") else []
        return {"string": "x" * self.schema.get("minLength", 1), "integer": 1, "boolean": True}[self.type]


@dataclass(frozen=True)
class Operation:
    """A method on a path, and everything it takes."""

    method: str
    path: str
    fields: tuple[Field, ...]
    has_body: bool

    def within(self, *places: str) -> list[Field]:
        """The fields in these places."""
        return [field for field in self.fields if field.where in places]

    @property
    def body(self) -> dict[str, Any]:
        """The smallest body that is taken."""
        return {member.name: member.sample for member in self.within("body") if member.required}

    def request(self, what: str, values: dict[str, str] | None = None, **options: Any) -> Request:
        """A request that would be taken but for `values` in its URL and `options`."""
        values = values or {}
        path = {member.name: str(member.sample) for member in self.within("path")}
        path |= {name: value for name, value in values.items() if name in path}
        query = {name: value for name, value in values.items() if name not in path}
        url = self.path.format(**{name: quote(value, safe="") for name, value in path.items()})
        if query:
            url += "?" + "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in query.items())
        if self.has_body and "content" not in options:
            options["content"] = json.dumps(self.body)
        return Request(f"{self.method} {self.path}: {what}", self.method, url, options)

    def request_with_json(self, member: Field, token: str) -> Request:
        """The same with the JSON `token` for one member of the body."""
        body = json.dumps({**self.body, member.name: "@"}).replace('"@"', token)
        return self.request(f"{member.name} = {token:.40}", content=body)


@dataclass(frozen=True)
class Request:
    """A request, and what is special about it."""

    what: str
    method: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)

    def send(self, client: TestClient) -> Any:
        headers = {"content-type": JSON} if "content" in self.options else {}
        return client.request(self.method, self.url, **{"headers": headers, **self.options})


def _operations(app: FastAPI) -> list[Operation]:
    document = app.openapi()
    found = [
        _operation(document, method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    taking = [operation for operation in found if operation.fields]
    assert {operation.method for operation in taking} >= {"GET", "POST", "PATCH", "DELETE"}
    return taking


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Operation:
    fields = [
        _field(document, given["in"], given["name"], given["schema"], required=given.get("required", False))
        for given in operation.get("parameters", [])
        # The one header has a test of its own.
        if given["in"] != "header"
    ]
    body = operation.get("requestBody")
    if body and path != FORM:
        schema = _resolved(document, body["content"][JSON]["schema"])
        required = schema.get("required", [])
        fields += [
            _field(document, "body", name, member, required=name in required)
            for name, member in schema["properties"].items()
        ]
    return Operation(method, path, tuple(fields), bool(body) and path != FORM)


def _field(
    document: dict[str, Any], where: str, name: str, schema: dict[str, Any], *, required: bool
) -> Field:
    schema = _resolved(document, schema)
    variants = [_resolved(document, variant) for variant in schema.get("anyOf", [schema])]
    kinds = [variant for variant in variants if variant["type"] != "null"]
    nullable = len(kinds) < len(variants)
    if [kind["type"] for kind in kinds] == ["integer", "string"]:
        return Field(where, name, required, {**schema, "type": "decimal"}, nullable)
    assert len(kinds) == 1, f"{name}: the cases know one type a field, or two for decimals"
    item = _resolved(document, kinds[0].get("items", {}))
    members = {member: _resolved(document, value) for member, value in item.get("properties", {}).items()}
    one = dict.fromkeys(item.get("required", []), "x") if members else None
    return Field(where, name, required, {**schema, **kinds[0]}, nullable, one)


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    target: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return {**target, **{name: value for name, value in schema.items() if name != "$ref"}}


def _assert_each_refused(client: TestClient, requests: Iterator[Request]) -> None:
    """Every request is refused as invalid before it reaches the database, and nothing it said comes back."""
    failures = []
    sent = 0
    for request in requests:
        sent += 1
        response = request.send(client)
        try:
            problem = assert_problem(response, range(400, 500))
            assert problem["type"] == "urn:problem:invalid-request" or response.status_code in {400, 413, 415}
            del problem["instance"]
            assert CANARY not in json.dumps(problem)
            assert CANARY not in str(response.headers)
        except AssertionError:
            failures.append(f"{request.what} -> {response.status_code} {response.text:.200}")
    assert not failures, "\n".join(failures)
    assert sent >= 5


@pytest.mark.slow
def test_the_good_requests_behind_the_bad_ones_are_taken(client: TestClient, app: FastAPI) -> None:
    """Each of the requests that are spoilt below would be taken as it is, with each of its fields."""
    for operation in _operations(app):
        requests = [operation.request("as it is")]
        for member in operation.fields:
            # The one value that only the server can make.
            if member.name == "cursor":
                continue
            if member.where == "body":
                requests.append(operation.request_with_json(member, json.dumps(member.sample)))
            else:
                requests.append(operation.request(member.name, {member.name: str(member.sample)}))
        for request in requests:
            response = request.send(client)
            taken = response.status_code < 500 and "urn:problem:invalid" not in response.text
            assert taken, f"{request.what} -> {response.text}"


def test_every_text_and_list_is_bounded(app: FastAPI) -> None:
    """Nothing that a client may send can be as long as it likes."""
    for operation in _operations(app):
        for member in operation.fields:
            bounded = "maxItems" in member.schema if member.type == "array" else not member.is_free_text
            assert bounded or "maxLength" in member.schema, (
                f"{operation.method} {operation.path} {member.name}"
            )


@pytest.mark.slow
def test_a_wrong_type_is_refused(client: TestClient, app: FastAPI) -> None:
    """A value of another type, in any field, is refused rather than converted."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for member in operation.within("body"):
                wrong = WRONG_IN_JSON[member.type] + (() if member.nullable else (None,))
                yield from (operation.request_with_json(member, json.dumps(value)) for value in wrong)
            for member in operation.within("path", "query"):
                for value in WRONG_IN_URL[member.type]:
                    yield operation.request(f"{member.name} = {value!r}", {member.name: value})

    _assert_each_refused(client, requests())


def test_an_unlisted_value_is_refused(client: TestClient, app: FastAPI) -> None:
    """A text outside the allowed values or format is refused."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for member in operation.fields:
                if member.type != "string" or member.is_free_text:
                    continue
                for value in (CANARY, "", str(member.sample) + CANARY, str(member.sample).swapcase() + "\n"):
                    if member.where == "body":
                        yield operation.request_with_json(member, json.dumps(value))
                    else:
                        yield operation.request(f"{member.name} = {value!r}", {member.name: value})

    _assert_each_refused(client, requests())


@pytest.mark.slow
def test_a_wild_number_is_refused(client: TestClient, app: FastAPI) -> None:
    """Negative, fractional, infinite, beyond 64 bits or 5,000 digits long: refused in every field."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for number in WILD_NUMBERS:
                for member in operation.within("body"):
                    # Every reader of JSON takes it for zero, which an account may begin with.
                    if (member.name, number) != ("balance", "1e-400"):
                        yield operation.request_with_json(member, number)
                for member in operation.within("path", "query"):
                    if member.type == "integer":
                        yield operation.request(f"{member.name} = {number:.40}", {member.name: number})

    _assert_each_refused(client, requests())


@pytest.mark.slow
def test_an_id_that_no_row_can_have_is_refused(client: TestClient, app: FastAPI) -> None:
    """Ids begin at 1 and end with 64 bits; nothing else is asked of the database."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for member in operation.within("path"):
                for number in ("0", "-0", "00", str(2**63), "9" * 5000):
                    yield operation.request(f"{member.name} = {number:.40}", {member.name: number})

    _assert_each_refused(client, requests())


def test_a_text_ten_times_too_long_is_refused(client: TestClient, app: FastAPI) -> None:
    """A bound is a bound, in a body as in a query."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for member in operation.fields:
                if member.type != "string":
                    continue
                value = CANARY * member.schema.get("maxLength", 1000)
                if member.where == "body":
                    yield operation.request_with_json(member, json.dumps(value))
                else:
                    yield operation.request(member.name, {member.name: value})

    _assert_each_refused(client, requests())


def test_a_text_one_character_too_long_is_refused(client: TestClient, app: FastAPI) -> None:
    """The bound in the description is the bound that holds."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for member in operation.within("body"):
                if not member.is_free_text:
                    continue
                value = str(member.sample).rjust(member.schema["maxLength"] + 1, "x")
                yield operation.request_with_json(member, json.dumps(value))

    _assert_each_refused(client, requests())


@pytest.mark.slow
def test_a_nul_is_refused(client: TestClient, app: FastAPI) -> None:
    """PostgreSQL's text takes no NUL, so no field does."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for member in operation.fields:
                for value in (f"{member.sample}\x00", f"\x00{CANARY}", "\x00"):
                    if member.where == "body":
                        yield operation.request_with_json(member, json.dumps(value))
                    else:
                        yield operation.request(f"{member.name} = {value!r}", {member.name: value})

    _assert_each_refused(client, requests())


@pytest.mark.slow
def test_half_a_surrogate_pair_is_refused(client: TestClient, app: FastAPI) -> None:
    """JSON can write what UTF-8 cannot hold; in a value or a name it is refused."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for member in operation.within("body"):
                for half in (r'"\ud800"', rf'"{CANARY}\udfff"', rf'"\udfff\ud800{CANARY}"'):
                    yield operation.request_with_json(member, half)
            if operation.has_body:
                body = json.dumps({**operation.body, f"\ud800{CANARY}": 1})
                yield operation.request("a name", content=body)

    _assert_each_refused(client, requests())


@pytest.mark.slow
def test_an_unknown_field_or_parameter_is_refused(client: TestClient, app: FastAPI) -> None:
    """A name we do not know is refused rather than ignored; its value does not come back."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for name in ("unknown", "", "__proto__", "Limit", "id\x00"):
                if operation.has_body:
                    body = json.dumps({**operation.body, name: CANARY})
                    yield operation.request(f"{name!r} in the body", content=body)
                if operation.within("query"):
                    yield operation.request(f"{name!r} in the query", {name: CANARY})

    _assert_each_refused(client, requests())


def test_a_missing_field_is_refused(client: TestClient, app: FastAPI) -> None:
    """A missing field is reported by its name."""

    def requests() -> Iterator[Request]:
        for operation in _operations(app):
            for member in operation.within("body"):
                if member.required:
                    body = {name: value for name, value in operation.body.items() if name != member.name}
                    yield operation.request(f"no {member.name}", content=json.dumps(body | {"x": CANARY}))
                    yield operation.request(f"no {member.name}", content=json.dumps(body))

    # Two required fields for each of the two things that are created.
    _assert_each_refused(client, requests())


BAD_BODIES = {
    "nothing": b"",
    "only blanks": b" \n",
    "cut off": b'{"username": "' + CANARY.encode(),
    "not closed": b"{",
    "a word": CANARY.encode(),
    "a comma too many": b'{"title": "x",}',
    "single quotes": b"{'title': 'x'}",
    "not UTF-8": b"\xff\xfe\xfd",
    "not UTF-8 within": b'{"title": "\xc3\x28' + CANARY.encode() + b'"}',
    "NUL bytes": b"\x00" * 10,
    "deep lists": b"[" * 100_000,
    "deep lists, closed": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep, in a field": b'{"title": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a list": b'["' + CANARY.encode() + b'"]',
    "a text": b'"' + CANARY.encode() + b'"',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
    "NaN": b"NaN",
    "a list of bodies": b'[{"title": "x"}]',
}


@pytest.mark.slow
def test_a_body_that_is_no_object_is_refused(client: TestClient, app: FastAPI) -> None:
    """A body that is no JSON object is refused before the route runs."""
    _assert_each_refused(
        client,
        (
            operation.request(name, content=body)
            for operation in _operations(app)
            if operation.has_body
            for name, body in BAD_BODIES.items()
        ),
    )


CONTENT_TYPES = (
    None,
    "",
    "text/plain",
    "text/json",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "json",
    "application",
    ";",
    "application/jsonp",
)


def test_a_body_of_another_type_is_refused(client: TestClient, app: FastAPI) -> None:
    """A good body that does not say it is JSON is not read, so a form on another site sends nothing."""
    _assert_each_refused(
        client,
        (
            operation.request(str(said), headers={} if said is None else {"content-type": said})
            for operation in _operations(app)
            if operation.has_body
            for said in CONTENT_TYPES
        ),
    )


@pytest.mark.slow
def test_a_body_beyond_the_bound_is_413(client: TestClient, app: FastAPI) -> None:
    """A body of more than 1 MiB is refused by its length, and one that hides its length by what arrives."""
    for operation in _operations(app):
        if not operation.has_body:
            continue
        body = json.dumps(operation.body).encode()
        assert_problem(operation.request("long", content=body.ljust(2**20 + 1)).send(client), 413)
        chunks = iter([body, *[b" " * 2**16] * 17])
        assert_problem(operation.request("in chunks", content=chunks).send(client), 413)
        assert operation.request("just", content=body.ljust(2**20)).send(client).status_code != 413


@pytest.mark.slow
def test_many_mistakes_make_a_short_answer(client: TestClient, app: FastAPI) -> None:
    """Ten thousand unknown fields with long names are counted, and fifty of them named, in part."""
    for operation in _operations(app):
        if operation.has_body:
            body = json.dumps({**operation.body, **{f"{number:05}{'x' * 80}": 1 for number in range(10_000)}})
            problem = assert_problem(
                operation.request("many", content=body).send(client), 422, "invalid-request"
            )
            assert problem["detail"].startswith("10000 parts")
            assert len(problem["errors"]) == 50
            assert all(len(part["loc"][-1]) == 64 for part in problem["errors"])


@pytest.mark.slow
def test_a_url_that_is_not_utf_8_fails_nothing(client: TestClient, app: FastAPI) -> None:
    """Bytes in a URL that are no text are read as the replacement character: refused, or found nowhere."""
    for operation in _operations(app):
        for member, encoded in product(
            operation.within("path", "query"), ("%FF", "%ED%A0%80", "%C0%80", "%F0%9F", "%", "%zz")
        ):
            request = operation.request(member.name, {member.name: "@"})
            response = replace(request, url=request.url.replace("%40", encoded)).send(client)
            if response.status_code != 200:
                assert_problem(response, 422, "invalid-request")
            else:
                assert member.name in {"q", "tag"}
                assert response.json()["items"] == []


def test_a_method_that_a_path_does_not_take_is_405(client: TestClient, app: FastAPI) -> None:
    """The answer lists every method that the path does take."""
    for path, operations in app.openapi()["paths"].items():
        allowed = {method.upper() for method in operations}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - allowed:
            response = client.request(method, path.replace("{", "").replace("}", ""))
            assert_problem(response, 405)
            assert set(response.headers["allow"].split(", ")) - {"HEAD"} == allowed, f"{method} {path}"


UNKNOWN_PATHS = (
    "/",
    "/nowhere",
    "/api",
    "/api/v1",
    "/api/v1/nowhere",
    "/api/v1/users/1/2",
    "/API/V1/USERS",
    "/health/nowhere",
    "/healthy",
    "/..%2f..%2fetc%2fpasswd",
    "/%00",
    "/%FF",
    "/%ED%A0%80",
    "/<script>",
    "/{user_id}",
    "/" + "x" * 10_000,
)


def test_an_unknown_path_is_404(client: TestClient) -> None:
    """An unknown path is 404, with any method."""
    for path in UNKNOWN_PATHS:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "BREW"):
            assert_problem(client.request(method, path), 404)
