"""The endpoints of designs with a sync session: `def` routes, as their sources write them."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from benchmarks.peers.answers import Count, ItemChange, ItemIn, ItemOut, PairOut
from benchmarks.peers.items import Item


def add_routes(app: FastAPI, get_session: Callable[[], Iterator[Session]]) -> FastAPI:
    dependency = Annotated[Session, Depends(get_session)]

    @app.get("/items/{key}", response_model=ItemOut)
    def read(key: int, session: dependency) -> Item | None:  # type: ignore[valid-type]
        return session.get(Item, key)

    @app.get("/items/{key}/pair", response_model=PairOut)
    def read_two(key: int, session: dependency) -> dict[str, Any]:  # type: ignore[valid-type]
        return {
            "item": session.get(Item, key),
            "items": session.scalar(select(func.count()).where(Item.id <= 1000)),
        }

    @app.post("/items", response_model=ItemOut, status_code=201)
    def write(item: ItemIn, session: dependency) -> Any:  # type: ignore[valid-type]
        row = session.scalars(insert(Item).values(item.model_dump()).returning(Item)).one()
        answer = ItemOut.model_validate(row)
        session.commit()
        return answer

    @app.post("/items/orm", response_model=ItemOut, status_code=201)
    def add(item: ItemIn, session: dependency) -> Item:  # type: ignore[valid-type]
        row = Item(**item.model_dump())
        session.add(row)
        session.commit()
        session.refresh(row)
        return row

    @app.patch("/items/{key}", response_model=ItemOut)
    def change(key: int, values: ItemChange, session: dependency) -> Item:  # type: ignore[valid-type]
        row = session.get(Item, key)
        row.status = values.status
        session.commit()
        session.refresh(row)
        return row

    @app.post("/items/bulk", status_code=201)
    def add_many(number: Count, session: dependency) -> dict[str, int]:  # type: ignore[valid-type]
        session.add_all(Item(title=f"item {index}") for index in range(number.count))
        session.commit()
        return {"count": number.count}

    @app.get("/health/db")
    def health(session: dependency) -> dict[str, str]:  # type: ignore[valid-type]
        session.execute(text("SELECT 1"))
        return {"status": "healthy"}

    return app
