"""A session manager around an async engine on asyncpg, with a pre-ping; sessions commit as they close."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from benchmarks.peers.async_routes import add_routes
from benchmarks.peers.driver_url import asyncpg_url


class SessionManager:
    def __init__(self) -> None:
        self._engine: AsyncEngine | None = None
        self._make: async_sessionmaker[AsyncSession] | None = None

    def init(self, url: str) -> None:
        self._engine = create_async_engine(url, pool_size=5, max_overflow=10, pool_pre_ping=True)
        self._make = async_sessionmaker(self._engine, expire_on_commit=False)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        assert self._make is not None, "not initialised"
        session = self._make()
        try:
            yield session
            await session.commit()
        except Exception:
            await session.rollback()
            raise
        finally:
            await session.close()

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()


def create_app(url: str) -> FastAPI:
    manager = SessionManager()
    manager.init(asyncpg_url(url))

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with manager.session() as session:
            yield session

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await manager.close()

    return add_routes(FastAPI(lifespan=lifespan), get_session)
