"""SQLAlchemy on asyncpg, tuned: a pool of 2 without a ping, nothing refreshed, safe behind a pooler."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks.peers.async_routes import add_routes
from benchmarks.peers.driver_url import asyncpg_url
from benchmarks.peers.items import Item


class TunedSession(AsyncSession):
    async def refresh(self, instance: object, *_arguments: object, **_options: object) -> None:
        """Do nothing: INSERT has returned the generated values."""


def create_app(url: str) -> FastAPI:
    engine = create_async_engine(
        asyncpg_url(url),
        pool_size=2,
        max_overflow=0,
        pool_use_lifo=True,
        # A pooler hands out another server connection next time, which knows the names of others.
        connect_args={
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"__{uuid4().hex}__",
        },
    )
    Item.__mapper__.eager_defaults = True

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with TunedSession(engine, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    return add_routes(FastAPI(lifespan=lifespan), get_session)
