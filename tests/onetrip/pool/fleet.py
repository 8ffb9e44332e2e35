"""Many instances of a function in few processes: each with an engine and a pool of its own, all busy at once.

Prints one JSON object: how many requests succeeded, what the others met, and how long they took.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from statistics import quantiles

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from lib.onetrip import retries
from lib.onetrip.deadlines import deadline
from lib.onetrip.errors import PoolExhaustedError
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading, transaction
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.url.database_url import DatabaseURL

PROCESSES = 10
REQUEST_SECONDS = 10.0
# One request in so many writes too.
WRITES = 5
READ = text("SELECT count(*) FROM authors WHERE name = :name")
WRITE = text("INSERT INTO authors (name, email) VALUES (gen_random_uuid(), gen_random_uuid())")

Opening = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True)
class Instance:
    """The way in which an instance opens its sessions."""

    reading: Opening
    writing: Opening


@dataclass(frozen=True)
class Outcome:
    """One request: how long it took, and what it failed with."""

    seconds: float
    error: str | None


@dataclass(frozen=True)
class Report:
    """The outcomes of all requests; times in milliseconds."""

    requests: int
    failures: int
    errors: dict[str, int]
    p50_ms: float
    p95_ms: float


def ours(url: DatabaseURL) -> Instance:
    """The connection layer of this project: a tiny pool on the pooled URL."""
    database = Database(load_settings(DATABASE_URL=url.render(), DATABASE_POOL="tiny"))
    return Instance(lambda: reading(database), lambda: transaction(database))


def stock(url: DatabaseURL) -> Instance:
    """SQLAlchemy as tutorials set it up: 5 + 10 connections, asked before each use."""
    engine = create_engine(
        url.render().replace("postgresql:", "postgresql+psycopg:"),
        pool_size=5,
        max_overflow=10,
        pool_pre_ping=True,
    )

    @contextmanager
    def session() -> Iterator[Session]:
        with Session(engine) as session, session.begin():
            yield session

    return Instance(session, session)


def live(make: Callable[[DatabaseURL], Instance], url: DatabaseURL, requests: int) -> list[Outcome]:
    """One instance's life: a request a second, from a random moment on."""
    instance = make(url)
    due = time.monotonic() + random.random()
    outcomes = []
    for number in range(requests):
        time.sleep(max(0.0, due + number - time.monotonic()))
        outcomes.append(_request(instance, writes=number % WRITES == 0))
    return outcomes


def _request(instance: Instance, *, writes: bool) -> Outcome:
    begin = time.monotonic()
    error = None
    try:
        with deadline(REQUEST_SECONDS):
            retries.retry(lambda: _read(instance))
            if writes:
                retries.retry(lambda: _write(instance))
    except (SQLAlchemyError, PoolExhaustedError) as failure:
        error = str(getattr(failure, "orig", failure)).splitlines()[0].rpartition("FATAL: ")[2].strip()
    return Outcome(time.monotonic() - begin, error)


def _read(instance: Instance) -> None:
    with instance.reading() as session:
        session.execute(READ, {"name": "nobody"})


def _write(instance: Instance) -> None:
    with instance.writing() as session:
        session.execute(WRITE)


def _process(design: str, url: str, instances: int, requests: int) -> list[Outcome]:
    make = {"ours": ours, "stock": stock}[design]
    parsed = DatabaseURL.parse(url)
    with ThreadPoolExecutor(instances) as threads:
        lives = [threads.submit(live, make, parsed, requests) for _ in range(instances)]
        return [outcome for life in lives for outcome in life.result()]


def main(design: str, url: str, instances: int, requests: int) -> None:
    """Run the fleet and print its report."""
    share = instances // PROCESSES
    # Forked: what is imported is imported once.
    with multiprocessing.get_context("fork").Pool(PROCESSES) as processes:
        arguments = [(design, url, share, requests)] * PROCESSES
        outcomes = [
            outcome for part in processes.starmap(_process, arguments, chunksize=1) for outcome in part
        ]
    errors = Counter(outcome.error for outcome in outcomes if outcome.error)
    percentiles = quantiles((outcome.seconds * 1000 for outcome in outcomes if not outcome.error), n=20)
    report = Report(
        requests=len(outcomes),
        failures=sum(errors.values()),
        errors=dict(errors.most_common(3)),
        p50_ms=round(percentiles[9], 1),
        p95_ms=round(percentiles[18], 1),
    )
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
