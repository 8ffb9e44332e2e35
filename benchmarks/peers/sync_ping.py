"""A sync engine of 5 + 10 connections with a pre-ping, AUTOCOMMIT, and SETs on each new connection."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.peers.driver_url import psycopg_url
from benchmarks.peers.sync_routes import add_routes


def create_app(url: str) -> FastAPI:
    engine = create_engine(
        psycopg_url(url),
        pool_size=5,
        max_overflow=10,
        pool_timeout=30,
        pool_recycle=1800,
        pool_pre_ping=True,
        isolation_level="AUTOCOMMIT",
    )

    @event.listens_for(engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '30s'")
            cursor.execute("SET idle_in_transaction_session_timeout = '60000'")

    make_session = sessionmaker(engine, autoflush=False)

    def get_session() -> Iterator[Session]:
        session = make_session()
        try:
            yield session
        finally:
            session.close()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        yield
        engine.dispose()

    return add_routes(FastAPI(lifespan=lifespan), get_session)
