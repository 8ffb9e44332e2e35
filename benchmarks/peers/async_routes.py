"""The endpoints of designs with an async session, as their sources write them."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.peers.answers import Count, ItemChange, ItemIn, ItemOut, PairOut
from benchmarks.peers.items import Item


def add_routes(app: FastAPI, get_session: Callable[[], AsyncIterator[AsyncSession]]) -> FastAPI:
    dependency = Annotated[AsyncSession, Depends(get_session)]

    @app.get("/items/{key}", response_model=ItemOut)
    async def read(key: int, session: dependency) -> Item | None:  # type: ignore[valid-type]
        return (await session.execute(select(Item).where(Item.id == key))).scalar_one_or_none()

    @app.get("/items/{key}/pair", response_model=PairOut)
    async def read_two(key: int, session: dependency) -> dict[str, Any]:  # type: ignore[valid-type]
        return {
            "item": await session.get(Item, key),
            "items": await session.scalar(select(func.count()).where(Item.id <= 1000)),
        }

    @app.post("/items", response_model=ItemOut, status_code=201)
    async def write(item: ItemIn, session: dependency) -> Any:  # type: ignore[valid-type]
        row = (await session.scalars(insert(Item).values(item.model_dump()).returning(Item))).one()
        answer = ItemOut.model_validate(row)
        await session.commit()
        return answer

    @app.post("/items/orm", response_model=ItemOut, status_code=201)
    async def add(item: ItemIn, session: dependency) -> Item:  # type: ignore[valid-type]
        row = Item(**item.model_dump())
        session.add(row)
        await session.commit()
        await session.refresh(row)
        return row

    @app.patch("/items/{key}", response_model=ItemOut)
    async def change(key: int, values: ItemChange, session: dependency) -> Item:  # type: ignore[valid-type]
        row = (await session.execute(select(Item).where(Item.id == key))).scalar_one()
        row.status = values.status
        await session.commit()
        await session.refresh(row)
        return row

    @app.post("/items/bulk", status_code=201)
    async def add_many(number: Count, session: dependency) -> dict[str, int]:  # type: ignore[valid-type]
        session.add_all(Item(title=f"item {index}") for index in range(number.count))
        await session.commit()
        return {"count": number.count}

    @app.get("/health/db")
    async def health(session: dependency) -> dict[str, str]:  # type: ignore[valid-type]
        await session.execute(text("SELECT 1"))
        return {"status": "healthy"}

    return app
