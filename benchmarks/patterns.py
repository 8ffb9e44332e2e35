"""Three patterns for which guides publish numbers: pooling, N+1 queries, offset and keyset pages."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from sqlalchemy import Engine, ForeignKey, create_engine, event, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from benchmarks.delay_proxy import delayed
from benchmarks.instance import Instance
from benchmarks.options import Plan
from benchmarks.peers.driver_url import psycopg_url
from benchmarks.secure_pooler import url
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading
from lib.onetrip.settings.settings import load_settings

POSTS, ROWS, PAGE = 50, 200_000, 20
DEPTHS = [0, 1_000, 10_000, 100_000]
NETWORKS_MS = [0, 10]
AT_ONCE = 50
POOLS: dict[str, tuple[str, dict[str, str]]] = {
    "no pool": ("null_pool", {}),
    "sync, pool of 20 + 10": ("large_pool", {}),
    "sync, pool of 50 + 10": ("large_pool", {"POOL_SIZE": "50"}),
    "this project, pool of 2": ("ours", {}),
    "this project, pool of 20": ("ours", {"DATABASE_POOL_SIZE": "20"}),
}
SCHEMA = f"""
    CREATE TABLE authors (id bigserial PRIMARY KEY, name text NOT NULL);
    CREATE TABLE articles (id bigserial PRIMARY KEY, author_id bigint NOT NULL REFERENCES authors);
    INSERT INTO authors (name) SELECT 'author ' || n FROM generate_series(1, {POSTS}) AS n;
    INSERT INTO articles (author_id) SELECT n FROM generate_series(1, {POSTS}) AS n;
    CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz NOT NULL, what text NOT NULL);
    INSERT INTO events (at, what)
        SELECT now() - n * interval '1 second', 'event ' || n FROM generate_series(1, {ROWS}) AS n;
    CREATE INDEX events_at_idx ON events (at, id);
    ANALYZE;
"""
BY_OFFSET = f"SELECT id, at, what FROM events ORDER BY at, id LIMIT {PAGE} OFFSET %s"
BY_KEYSET = f"SELECT id, at, what FROM events WHERE (at, id) > (%s, %s) ORDER BY at, id LIMIT {PAGE}"
PLACE = "SELECT at, id FROM events ORDER BY at, id LIMIT 1 OFFSET %s"


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Article(Base):
    __tablename__ = "articles"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship()


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Each of the tables, one after the other."""
    with _connected(plan) as connection:
        connection.execute("DROP TABLE IF EXISTS events, articles, authors")
        connection.execute(SCHEMA.encode())
    found: dict[str, Any] = {"posts": POSTS, "rows": ROWS, "page": PAGE, "at_once": AT_ONCE}
    plan.progress("pooling", 0)
    found["pooling"] = {name: _pooling(plan, *pool) for name, pool in POOLS.items()}
    yield found
    plan.progress("N+1", 0.5)
    with delayed(plan.endpoints.direct.port, [(delay, 0) for delay in NETWORKS_MS]) as ports:
        places = zip(NETWORKS_MS, ports, strict=True)
        found["n_plus_one"] = {str(delay): _loading(plan, url(port)) for delay, port in places}
    yield found
    plan.progress("pages", 0.8)
    with _connected(plan) as connection:
        found["pages"] = {str(depth): _pages(plan, connection, depth) for depth in DEPTHS}
    yield found


def _connected(plan: Plan) -> psycopg.Connection[Any]:
    port = plan.endpoints.postgres.port
    return psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", autocommit=True)


def _pooling(plan: Plan, module: str, variables: dict[str, str]) -> dict[str, float]:
    with Instance(module, url(plan.endpoints.pooler.port), variables=variables) as instance:
        instance.ask(times=AT_ONCE, at_once=AT_ONCE)
        batch = instance.ask(at_once=AT_ONCE, seconds=plan.choose(4.0, 0.5))
    failed = sum(n for status, n in batch.statuses.items() if not status.startswith("2"))
    return {
        "per_second": round(len(batch.milliseconds) / batch.seconds, 1),
        "p50_ms": statistics.median(batch.milliseconds),
        "memory_mb": round(batch.memory_mb, 1),
        "failed": failed,
    }


def _loading(plan: Plan, address: str) -> dict[str, Any]:
    plain = create_engine(psycopg_url(address))
    ours = Database(load_settings(DATABASE_URL=address, DATABASE_URL_UNPOOLED=address, DATABASE_POOL="tiny"))
    with Session(plain) as session:
        ways: dict[str, tuple[Engine, Callable[[], None]]] = {
            "lazy": (plain, lambda: _names(session)),
            "selectinload": (plain, lambda: _names(session, selectinload(Article.author))),
            "joinedload": (plain, lambda: _names(session, joinedload(Article.author))),
            "this project, joinedload": (ours.engine, lambda: _our_names(ours)),
        }
        found = {name: _counted(plan, *way, session) for name, way in ways.items()}
    plain.dispose()
    ours.close()
    return found


def _names(session: Session, *options: Any) -> None:
    articles = session.scalars(select(Article).options(*options)).all()
    assert len({article.author.name for article in articles}) == POSTS
    session.rollback()
    session.expunge_all()


def _our_names(database: Database) -> None:
    with reading(database) as session:
        articles = session.scalars(select(Article).options(joinedload(Article.author))).all()
        assert len({article.author.name for article in articles}) == POSTS


def _counted(plan: Plan, engine: Engine, load: Callable[[], None], _session: Session) -> dict[str, float]:
    queries: list[str] = []
    load()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        queries.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    load()
    event.remove(engine, "before_cursor_execute", note)
    times = [_milliseconds(load) for _ in range(plan.choose(15, 2))]
    return {"queries": len(queries), "ms": round(statistics.median(times), 2)}


def _pages(plan: Plan, connection: psycopg.Connection[Any], depth: int) -> dict[str, Any]:
    place: Any = (None, 0) if depth == 0 else connection.execute(PLACE, [depth - 1]).fetchone()
    ways: dict[str, tuple[str, Any]] = {"offset": (BY_OFFSET, [depth])}
    ways["keyset"] = (BY_OFFSET, [0]) if depth == 0 else (BY_KEYSET, list(place))
    found = {}
    for name, (statement, values) in ways.items():
        explained: Any = connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(), values
        ).fetchone()
        plan_of = explained[0][0]["Plan"]
        times = [
            _milliseconds(lambda: connection.execute(statement.encode(), values).fetchall())  # noqa: B023
            for _ in range(plan.choose(31, 5))
        ]
        found[name] = {
            "ms": round(statistics.median(times), 3),
            "rows_walked": plan_of["Plans"][0]["Actual Rows"],
            "buffers": plan_of["Shared Hit Blocks"] + plan_of["Shared Read Blocks"],
        }
    return found


def _milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000
