"""With OpenTelemetry's SDK its collectors get the pool and the statements; without it nothing is done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lib.onetrip.observability.otel_statements import summary
from tests.onetrip.environment import clean_environment, needs_fastapi

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

SDK = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

reader, spans, provider = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
# As in production: what is not flushed waits for seconds.
provider.add_span_processor(BatchSpanProcessor(spans, schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
"""
ASK = """
import io, json, sys
from sqlalchemy import text
from fastapi import APIRouter
from lib.onetrip.fastapi.sessions import SessionDep
from tests.onetrip.entrypoint import app, handler
from tests.onetrip.events import Request, http_api

@app.get("/secret/{number}")
async def secret(number: int, session: SessionDep) -> int:
    return session.execute(text("SELECT :number + 1"), {"number": number}).scalar_one()

@app.get("/broken/{number}")
async def broken(number: int, session: SessionDep) -> None:
    session.execute(text("SELECT 1 / (:number - 4711)"), {"number": number})

class Context:
    aws_request_id = "1"
    def get_remaining_time_in_millis(self):
        return 20_000

lines, said = io.StringIO(), sys.stdout
sys.stdout = lines
for path, status in (("/secret/4711", 200), ("/secret/4711", 200), ("/broken/4711", 422)):
    answer = handler(http_api(Request("GET", path)), Context())
    assert answer["statusCode"] == status, answer
sys.stdout = said
"""
TELL = """
logged = [json.loads(line) for line in lines.getvalue().splitlines()]
flushed = [json.loads(span.to_json()) for span in spans.get_finished_spans()]
points = {
    metric.name: [[dict(point.attributes), getattr(point, "value", None), getattr(point, "count", None),
                   getattr(point, "explicit_bounds", None)]
                  for point in metric.data.data_points]
    for resource in reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics for metric in scope.metrics
}
print(json.dumps([flushed, points, logged]))
"""
WITHOUT = "import sys; print(json.dumps(sorted(n for n in sys.modules if n.startswith('opentelemetry.sdk'))))"


def _run(tmp_path: Path, program: str, url: str) -> Any:
    environment = clean_environment(
        DATABASE_URL=url, DATABASE_MODE="direct", AWS_LAMBDA_FUNCTION_NAME="f", ENVIRONMENT="preview"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout.splitlines()[-1])


@needs_fastapi
@pytest.mark.parametrize("route", ["direct"])
def test_collectors_get_the_pool_and_the_statements(
    tmp_path: Path, servers: Servers, database_name: str, route: str
) -> None:
    """By OpenTelemetry's names, below FastAPI's spans, flushed before Lambda freezes, and without data."""
    url = servers.url(route, database_name).render()
    flushed, points, logged = _run(tmp_path, SDK + ASK + TELL, url)
    statements = [span for span in flushed if "db.query.text" in span["attributes"]]
    assert [span["attributes"]["db.query.text"] for span in statements] == [
        *["SELECT %(number)s + 1"] * 2,
        "SELECT 1 / (%(number)s - 4711)",
    ]
    assert [span["attributes"].get("error.type") for span in statements] == [None, None, "22012"]
    assert {span["kind"] for span in statements} == {"SpanKind.CLIENT"}
    requests = {
        span["context"]["trace_id"]: span["attributes"]["http.route"]
        for span in flushed
        if span["kind"] == "SpanKind.SERVER"
    }
    assert [requests[span["context"]["trace_id"]] for span in statements] == [
        *["/secret/{number}"] * 2,
        "/broken/{number}",
    ]
    found = statements[2]["attributes"]
    assert {name: found[name] for name in found if name != "db.query.text"} == {
        "db.system.name": "postgresql",
        "db.namespace": database_name,
        "db.query.summary": "SELECT",
        "server.address": "127.0.0.1",
        "server.port": servers.postgres.port,
        "db.response.status_code": "22012",
        "error.type": "22012",
    }
    assert {span["name"] for span in statements} == {"SELECT"}
    told = {line["trace_id"].join(["0x", ""]): line["route"] for line in logged if line["event"] == "request"}
    assert told == requests
    assert "4711" not in json.dumps([span["attributes"].get("db.query.text") for span in statements[:2]])
    pool = {name.removeprefix("db.client.connection."): found for name, found in points.items()}
    states = {attributes["db.client.connection.state"]: value for attributes, value, *_ in pool["count"]}
    assert states == {"idle": 1, "used": 0}
    assert [value for _, value, *_ in pool["max"]] == [2]
    assert [value for _, value, *_ in pool["pending_requests"] + pool["timeouts"]] == [0, 0]
    assert {name: pool[f"{name}_time"][0][2] for name in ("create", "wait", "use")} == {
        "create": 1,
        "wait": 3,
        "use": 3,
    }
    durations = {
        attributes.get("error.type"): (count, bounds)
        for attributes, _, count, bounds in points["db.client.operation.duration"]
    }
    bounds = pool["wait_time"][0][3]
    assert bounds[:2] == [0.001, 0.005]
    assert durations == {None: (2, bounds), "22012": (1, bounds)}
    assert "db.query.text" not in points["db.client.operation.duration"][0][0]
    assert "http.server.request.duration" in points


BROKEN = """
import math, os, threading
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader

class Deaf(MetricExporter):
    def export(self, *arguments, **options):
        {export}
    def force_flush(self, *arguments, **options):
        raise OSError("the collector is gone")
    shutdown = force_flush
"""


@needs_fastapi
@pytest.mark.parametrize("route", ["direct"])
@pytest.mark.parametrize("export", ["threading.Event().wait()", "raise OSError", "return None"])
def test_a_collector_that_fails_ends_no_request(
    tmp_path: Path, servers: Servers, database_name: str, route: str, export: str
) -> None:
    """With a silent, refusing or broken collector requests are answered, and soon."""
    sdk = SDK.replace("[reader]", "[reader, PeriodicExportingMetricReader(Deaf(), math.inf)]")
    program = BROKEN.format(export=export) + sdk + ASK + "print(json.dumps(True), flush=True); os._exit(0)"
    assert _run(tmp_path, program, servers.url(route, database_name).render()) is True


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT\n  1", "SELECT"),
        ("select * from books t join public.authors u on u.id = t.owner", "SELECT books public.authors"),
        ("INSERT INTO books (title) VALUES (%(title)s)", "INSERT books"),
        ("/* by hand */ UPDATE books SET title = 'moved from secret'", "UPDATE books"),
        ("SELECT 1 -- from secret", "SELECT"),
        ("SELECT 'it''s from secret' FROM a JOIN a AS b ON true", "SELECT a"),
        ("4711 secret", "SQL"),
    ],
)
def test_statements_are_summed_up_in_few_words(statement: str, told: str) -> None:
    """Spans and durations are named after the operation and its tables, never after data."""
    assert summary(statement) == told


@needs_fastapi
@pytest.mark.parametrize("route", ["direct"])
def test_without_an_sdk_nothing_of_it_is_imported(
    tmp_path: Path, servers: Servers, database_name: str, route: str
) -> None:
    """Though it is installed here, a process that did not ask for it pays nothing."""
    assert _run(tmp_path, ASK + WITHOUT, servers.url(route, database_name).render()) == []
