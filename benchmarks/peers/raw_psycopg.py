"""psycopg by hand, no ORM, no session, no safety: the fewest round trips that the protocol allows."""

from asyncio import LifoQueue
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from benchmarks.peers import statements as sql
from benchmarks.peers.answers import Count, ItemChange, ItemIn, ItemOut, PairOut

Connection = AsyncConnection[dict[str, Any]]


def create_app(url: str) -> FastAPI:
    free: LifoQueue[Connection | None] = LifoQueue()
    for _ in range(2):
        free.put_nowait(None)

    async def get_connection() -> AsyncIterator[Connection]:
        connection = await free.get()
        try:
            if connection is None or connection.closed:
                options: Any = {"autocommit": True, "prepare_threshold": None, "row_factory": dict_row}
                connection = await AsyncConnection.connect(url, **options)
            yield connection
        finally:
            free.put_nowait(connection)

    dependency = Annotated[Connection, Depends(get_connection)]

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        while not free.empty():
            if connection := free.get_nowait():
                await connection.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/items/{key}", response_model=ItemOut)
    async def read(key: int, connection: dependency) -> Any:  # type: ignore[valid-type]
        return await (await connection.execute(sql.READ, [key])).fetchone()

    @app.get("/items/{key}/pair", response_model=PairOut)
    async def read_two(key: int, connection: dependency) -> Any:  # type: ignore[valid-type]
        async with connection.pipeline():
            item = await connection.execute(sql.READ, [key])
            items = await connection.execute(sql.COUNT)
        return {"item": await item.fetchone(), "items": (await items.fetchone())["count"]}

    @app.post("/items/orm", response_model=ItemOut, status_code=201)
    @app.post("/items", response_model=ItemOut, status_code=201)
    async def write(item: ItemIn, connection: dependency) -> Any:  # type: ignore[valid-type]
        return await (await connection.execute(sql.WRITE, [item.title])).fetchone()

    @app.patch("/items/{key}", response_model=ItemOut)
    async def change(key: int, values: ItemChange, connection: dependency) -> Any:  # type: ignore[valid-type]
        async with connection.pipeline():
            await connection.execute("BEGIN")
            await connection.execute(sql.READ, [key])
        async with connection.pipeline():
            row = await connection.execute(sql.CHANGE, [values.status, key])
            await connection.execute("COMMIT")
        return await row.fetchone()

    @app.post("/items/bulk", status_code=201)
    async def add_many(number: Count, connection: dependency) -> dict[str, int]:  # type: ignore[valid-type]
        await connection.execute(sql.WRITE_MANY, [[f"item {index}" for index in range(number.count)]])
        return {"count": number.count}

    @app.get("/health/db")
    async def health(connection: dependency) -> dict[str, str]:  # type: ignore[valid-type]
        await connection.execute("SELECT 1")
        return {"status": "healthy"}

    return app
