"""asyncpg by hand: its own pool of 2, one statement after the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, Request

from benchmarks.peers import statements as sql
from benchmarks.peers.answers import Count, ItemChange, ItemIn, ItemOut, PairOut

READ, COUNT, WRITE, WRITE_MANY, CHANGE = map(
    sql.numbered, (sql.READ, sql.COUNT, sql.WRITE, sql.WRITE_MANY, sql.CHANGE)
)


async def _leave_as_it_is(_connection: Any) -> None:
    """In place of asyncpg's own reset, which costs a round trip after each use."""


def create_app(url: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        options: Any = {"min_size": 0, "max_size": 2, "statement_cache_size": 0, "reset": _leave_as_it_is}
        async with asyncpg.create_pool(url, **options) as app.state.pool:
            yield

    async def get_connection(request: Request) -> AsyncIterator[Any]:
        async with request.app.state.pool.acquire() as connection:
            yield connection

    dependency = Annotated[Any, Depends(get_connection)]
    app = FastAPI(lifespan=lifespan)

    @app.get("/items/{key}", response_model=ItemOut)
    async def read(key: int, connection: dependency) -> Any:  # type: ignore[valid-type]
        return dict(await connection.fetchrow(READ, key))

    @app.get("/items/{key}/pair", response_model=PairOut)
    async def read_two(key: int, connection: dependency) -> Any:  # type: ignore[valid-type]
        item = dict(await connection.fetchrow(READ, key))
        return {"item": item, "items": await connection.fetchval(COUNT)}

    @app.post("/items/orm", response_model=ItemOut, status_code=201)
    @app.post("/items", response_model=ItemOut, status_code=201)
    async def write(item: ItemIn, connection: dependency) -> Any:  # type: ignore[valid-type]
        return dict(await connection.fetchrow(WRITE, item.title))

    @app.patch("/items/{key}", response_model=ItemOut)
    async def change(key: int, values: ItemChange, connection: dependency) -> Any:  # type: ignore[valid-type]
        async with connection.transaction():
            await connection.fetchrow(READ, key)
            return dict(await connection.fetchrow(CHANGE, values.status, key))

    @app.post("/items/bulk", status_code=201)
    async def add_many(number: Count, connection: dependency) -> dict[str, int]:  # type: ignore[valid-type]
        await connection.execute(WRITE_MANY, [f"item {index}" for index in range(number.count)])
        return {"count": number.count}

    @app.get("/health/db")
    async def health(connection: dependency) -> dict[str, str]:  # type: ignore[valid-type]
        await connection.execute("SELECT 1")
        return {"status": "healthy"}

    return app
