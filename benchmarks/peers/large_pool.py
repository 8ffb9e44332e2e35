"""A sync pool of 20 + 10 connections without a ping, tables made sure of at start-up."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.peers.driver_url import psycopg_url
from benchmarks.peers.items import Base
from benchmarks.peers.sync_routes import add_routes


def create_app(url: str) -> FastAPI:
    engine = create_engine(
        psycopg_url(url), pool_size=int(os.environ.get("POOL_SIZE", "20")), max_overflow=10
    )

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        Base.metadata.create_all(engine)
        yield

    return add_routes(FastAPI(lifespan=lifespan), get_session)
