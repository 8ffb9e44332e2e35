"""The full-stack FastAPI template's way: a plain `create_engine(url)` and a session for each request."""

from collections.abc import Iterator

from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.peers.driver_url import psycopg_url
from benchmarks.peers.sync_routes import add_routes


def create_app(url: str) -> FastAPI:
    engine = create_engine(psycopg_url(url))

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    return add_routes(FastAPI(), get_session)
