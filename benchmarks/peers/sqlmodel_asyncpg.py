"""SQLModel on asyncpg, 5 + 10 connections with a pre-ping, tables made sure of at start-up.

Without `jit=off`, which a pooler refuses as an unknown start-up parameter.
"""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from benchmarks.peers.async_routes import add_routes
from benchmarks.peers.driver_url import asyncpg_url


class Item(SQLModel, table=True):
    """The same table, as SQLModel describes it."""

    __tablename__ = "items"
    id: int | None = Field(default=None, primary_key=True)
    title: str
    status: str = Field(default="todo")
    created_at: dt.datetime = Field(default_factory=dt.datetime.now)


def create_app(url: str) -> FastAPI:
    engine = create_async_engine(
        asyncpg_url(url),
        pool_size=5,
        max_overflow=10,
        pool_timeout=30,
        pool_recycle=3600,
        pool_pre_ping=True,
        connect_args={"server_settings": {"application_name": "items"}},
    )
    make_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False, autoflush=False)

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with make_session() as session:
            try:
                yield session
                await session.commit()
            except Exception:
                await session.rollback()
                raise

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine.connect() as connection:
            await connection.execute(select(1))
        async with engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)
        yield
        await engine.dispose()

    return add_routes(FastAPI(lifespan=lifespan), get_session)
