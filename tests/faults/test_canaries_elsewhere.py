"""Secrets appear in nothing that operators see: doctor, /status, metrics, a refused start."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import jwt
import pytest

from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.example.conftest import authorization
from tests.onetrip.connection.secret_store import CREDENTIALS, Store
from tests.onetrip.connection.test_secrets import Login, login, moto, store, strict_pooler
from tests.onetrip.environment import JWT_SECRET_KEY, PROJECT, clean_environment

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Answer, Application, Deployment
    from tests.onetrip.fault_proxy import Proxy

__all__ = ["login", "moto", "store", "strict_pooler"]

# One of its own for each place, so that a hit says where it came from.
SECRETS = {name: f"canary{name}5f2c9a7e31" for name in ("password", "sslkey", "operator", "stored", "member")}
SENT = {name: f"canary{name}5f2c9a7e31" for name in ("query", "basic", "cookie", "key", "body", "claim")}
# Operators may read them, unauthenticated clients may not.
WHERE = {"user": "canaryuser5f2c9a7e31", "host": "canaryhost5f2c9a7e31.invalid"}
FORGED = jwt.encode({"sub": "1", "x": SENT["claim"]}, "another key of thirty-two bytes 7a", algorithm="HS256")
HEADERS = {"Cookie": f"session={SENT['cookie']}", "Idempotency-Key": SENT["key"]}
BASIC = {"Authorization": f"Basic {base64.b64encode(SENT['basic'].encode()).decode()}"}
OPERATOR = {"Authorization": f"Bearer {SECRETS['operator']}"}
LOOKED_AT = (
    *("/status", "/status/data?ask=true", "/db/pool-status"),
    *("/health", "/health/ready", "/health/db", "/health/live", "/health/cold-start"),
)
# A refusal that repeats the row and, as a foreign server's does, how one logs in; its code tells nothing.
SAID = f"could not connect to postgresql://u:{SECRETS['password']}@h with {SECRETS['sslkey']}"
TELLTALE = f"""
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION '{SAID}' USING ERRCODE = '44000', DETAIL = 'Failing row: ' || NEW.content;
END $$;
CREATE TRIGGER tell BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION tell();
"""
# Programs that refuse to start: each with invalid settings, or without a server.
STARTS = (
    ("-c", "import api.index"),
    ("-c", "import api.aws_lambda"),
    ("-m", "dev.server"),
    ("-m", "alembic", "upgrade", "head"),
)
WRONG = (
    {"DATABASE_URL": f"mysql://u:{SECRETS['password']}@h/d"},
    {"DATABASE_URL": f"postgresql://u:{SECRETS['password']}/x@h/d"},
    {"DATABASE_URL": f"postgresql://u:{SECRETS['password']}@h:{SECRETS['member']}/d"},
    {"DATABASE_URL": SECRETS["password"], "OPS_TOKEN": "canary-short", "JWT_SECRET_KEY": SECRETS["stored"]},
    {"DATABASE_URL": f"postgresql://u:{SECRETS['password']}@db.example.com/d?sslmode=disable"},
)


@pytest.fixture
def route() -> str:
    """As deployed: through the pooler."""
    return "pooled"


def _url(deployment: Deployment, port: int) -> DatabaseURL:
    """The deployment's URL by `port`, with a secret in each place that takes one."""
    url = DatabaseURL.parse(deployment.variables(port)["DATABASE_URL"])
    parameters = {**url.parameters, "sslpassword": SECRETS["sslkey"]}
    return replace(url, password=SECRETS["password"], parameters=parameters)


def _variables(url: DatabaseURL) -> dict[str, str]:
    text = url.render(hide_password=False)
    return {"DATABASE_URL": text, "DATABASE_URL_UNPOOLED": text, "OPS_TOKEN": SECRETS["operator"]}


def _hits(said: str, *allowed: str) -> str:
    """Return the surroundings of a canary; empty if none was found."""
    names = {*SECRETS.values(), *SENT.values(), *WHERE.values(), JWT_SECRET_KEY, FORGED, "canary-short"}
    found = {name: said.find(name) for name in names - set(allowed)}
    return "; ".join(f"{said[max(0, at - 80) : at + 60]!r}" for at in found.values() if at >= 0)


def _met(application: Application, person: int) -> list[Answer]:
    """The answers to requests with canaries, good and bad ones."""
    me, query = authorization(person), f"q={SENT['query']}&limit={SENT['query']}"
    post = {"title": "t", "content": SENT["body"]}
    move = {"from_account_id": 1, "to_account_id": 2, "amount": "1.00", "x": SENT["body"]}
    return [
        application.ask("GET", f"/api/v1/users?{query}", headers={**HEADERS, **me}),
        application.ask("GET", f"/health/live?{query}", headers={**HEADERS, **BASIC}),
        application.ask("GET", "/api/v1/users/me", headers={"Authorization": f"Bearer {FORGED}"}),
        application.ask("POST", "/api/v1/posts", post, headers={**HEADERS, **me}),
        application.ask("POST", "/api/v1/transfers", move, headers={**HEADERS, **me}),
        application.ask("POST", "/api/v1/transfers", {**move, "amount": SENT["body"]}, headers=HEADERS),
    ]


def _shown(application: Application, headers: dict[str, str]) -> list[Answer]:
    return [application.ask("GET", path, headers=headers) for path in LOOKED_AT]


def _said(answers: list[Answer]) -> str:
    return "\n".join(f"{answer.headers!r} {answer.content.decode()}" for answer in answers)


def test_pages_and_logs_tell_no_secret(deployment: Deployment, network: Proxy, rows: Rows) -> None:
    """/status, its data, the pool's and health's pages, before and after; while the host is not found too."""
    row = rows("canaries-pages", 4, 4)
    (person,) = deployment.people()
    deployment.sql(TELLTALE)
    url = _url(deployment, network.port)
    with deployment.serving(network.port, **_variables(url)) as application:
        met = _met(application, person)
        assert {answer.status for answer in met} >= {200, 401, 422, 500}, [*map(str, met)]
        pages = _shown(application, OPERATOR)
        assert {answer.status for answer in pages} == {200}, [*map(str, pages)]
        said = _said([*met, *pages, *_shown(application, HEADERS)])
        log = application.log()
    row.count(not _hits(said), _hits(said))
    assert "Traceback" in log
    row.count(not _hits(log), _hits(log))
    lost = replace(url, host=WHERE["host"], user=WHERE["user"])
    with deployment.serving(network.port, **_variables(lost), REQUEST_TIMEOUT_SECONDS="2") as application:
        met = [*_met(application, person), *_shown(application, HEADERS), *_shown(application, OPERATOR)]
        assert {answer.status for answer in met} >= {200, 401, 503}, [*map(str, met)]
        assert all(answer.status < 500 or answer.status in {503, 504} for answer in met), [*map(str, met)]
        log = application.log()
    row.count(not _hits(_said(met)), _hits(_said(met)))
    # The log has to name the host that was not found.
    told = _hits(log, *WHERE.values())
    row.count(not told, told)
    row.check()


def test_metrics_tell_no_secret(deployment: Deployment, network: Proxy, rows: Rows) -> None:
    """CloudWatch's, which are lines of a function's log, and OpenTelemetry's spans and instruments."""
    row = rows("canaries-metrics", 2, 2)
    (person,) = deployment.people()
    deployment.sql(TELLTALE)
    variables = _variables(_url(deployment, network.port))
    with deployment.function(network.port, **variables) as function:
        assert {answer.status for answer in _met(function, person)} >= {200, 401, 422, 500}
        log = function.log()
    assert '"CloudWatchMetrics"' in log
    row.count(not _hits(log), _hits(log))
    given = {**deployment.variables(network.port), **variables, "AWS_LAMBDA_FUNCTION_NAME": "f"}
    done = _run("-c", OBSERVED, **given, CANARIES=json.dumps([SENT, HEADERS, authorization(person), FORGED]))
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "db.query.text" in said
    assert "db.client.connection.count" in said
    # By OpenTelemetry's conventions, FastAPI's own spans hold the request's URL.
    row.note = "a request's own query stands in FastAPI's spans"
    row.count(not _hits(said, SENT["query"]), _hits(said, SENT["query"]))
    row.check()


OBSERVED = """
import json, os
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

reader, spans, provider = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))

from api.aws_lambda import handler
from tests.onetrip.events import Context, Request, http_api

sent, headers, me, forged = json.loads(os.environ["CANARIES"])
query = (("limit", "5"), ("q", sent["query"]))
post = json.dumps({"title": "t", "content": sent["body"]}).encode()
kind = {"content-type": "application/json"}
for request in (
    Request("GET", "/api/v1/users/me", query, headers={**headers, **me}),
    Request("GET", "/api/v1/users/me", query, headers={"Authorization": f"Bearer {forged}"}),
    Request("POST", "/api/v1/posts", body=post, headers={**kind, **headers, **me}),
):
    handler(http_api(request), Context())
for span in spans.get_finished_spans():
    print(span.to_json())
print(reader.get_metrics_data().to_json())
"""


def test_the_doctor_tells_no_secret(
    deployment: Deployment, network: Proxy, store: Store, login: Login, rows: Rows
) -> None:
    """In lines or JSON, of patients with every complaint: of who logs in where it tells, of no more."""
    row = rows("canaries-doctor", 10 + 2 * len(WRONG), 10 + 2 * len(WRONG))
    url = _url(deployment, network.port)
    login.set_password(SECRETS["stored"])
    refused = replace(login.url, password=SECRETS["password"])
    stored = json.loads(json.dumps({"host": "127.0.0.1", "port": login.url.port, "dbname": login.database}))
    stored |= {"username": login.url.user, "password": SECRETS["stored"], "engine": SECRETS["member"]}
    patients = [
        {**deployment.variables(network.port), **_variables(url)},
        _variables(replace(url, host=WHERE["host"], user=WHERE["user"])),
        _variables(refused),
        _stored(store, json.dumps({**stored, "engine": "postgres", "masterarn": SECRETS["member"]})),
        _stored(store, SECRETS["stored"]),
        *WRONG,
    ]
    asked = [(patient, form) for patient in patients for form in ((), ("--json",))]
    with ThreadPoolExecutor(2) as doctors:
        visits = doctors.map(lambda one: _run("-m", "lib.onetrip.doctor", *one[1], **one[0]), asked)
        for (_, form), visit in zip(asked, visits, strict=True):
            said = visit.stdout + visit.stderr
            assert "login" in said or "settings" in said, said
            assert not form or json.loads(visit.stdout)["checks"]
            told = _hits(said, *WHERE.values())
            row.count(not told and "Traceback" not in said, told or said[-300:])
    row.check()


def _stored(store: Store, text: str) -> dict[str, str]:
    """The variables that lead to a secret that holds `text`."""
    (secret,) = [store.client("secretsmanager").create_secret(Name=uuid4().hex, SecretString=text)]
    return {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
        "DB_SECRET_ARN": secret["ARN"],
    }


def test_a_start_that_is_refused_tells_no_secret(rows: Rows) -> None:
    """Programs with invalid settings, and migrations without a server, end with the reason."""
    row = rows("canaries-start", len(STARTS) * len(WRONG) + 1, len(STARTS) * len(WRONG) + 1)
    starts = [(start, wrong) for start in STARTS for wrong in WRONG]
    nowhere = f"postgresql://{WHERE['user']}:{SECRETS['password']}@127.0.0.1:{free_port()}/d"
    starts.append((STARTS[-1], {"DATABASE_URL": f"{nowhere}?sslpassword={SECRETS['sslkey']}"}))
    with ThreadPoolExecutor(2) as people:
        ended = people.map(lambda one: _run(*one[0], **{"ENVIRONMENT": "production", **one[1]}), starts)
        for (start, wrong), done in zip(starts, ended, strict=True):
            said = done.stdout + done.stderr
            assert done.returncode != 0, (start, wrong, said)
            told = _hits(said, *WHERE.values())
            row.count(bool(said) and not told, told)
    row.check()


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A process of Python's with nothing of ours in its environment but `variables`."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=clean_environment(**variables),
        # A folder without a `.env`, except for Alembic, whose configuration is in the tree.
        cwd=PROJECT if "alembic" in arguments else PROJECT / "tests",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
