"""No pool, a new connection for each request, as is often advised for functions."""

from collections.abc import Iterator

from fastapi import FastAPI
from sqlalchemy import NullPool, create_engine
from sqlalchemy.orm import Session

from benchmarks.peers.driver_url import psycopg_url
from benchmarks.peers.sync_routes import add_routes


def create_app(url: str) -> FastAPI:
    options = {"prepare_threshold": None}
    engine = create_engine(psycopg_url(url), poolclass=NullPool, connect_args=options)

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    return add_routes(FastAPI(), get_session)
