"""The application of this project, with the same endpoints added as its guide describes."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, FastAPI
from sqlalchemy import Row, Select, func, insert, select, text, update

from api.blank_application import blank_application
from benchmarks.peers.answers import Count, ItemChange, ItemIn, ItemOut, PairOut
from benchmarks.peers.items import Item
from benchmarks.peers.no_database import ITEM
from lib.onetrip.fastapi.installation import install
from lib.onetrip.fastapi.sessions import AsyncReadSessionDep, DatabaseDep, ReadSessionDep, SessionDep
from lib.onetrip.fastapi.startup import started
from lib.onetrip.observability import json_log as telemetry
from lib.onetrip.pool.database import Database
from lib.onetrip.session.batch import batch
from lib.onetrip.session.compiled import compiled
from lib.onetrip.session.session import LAST
from lib.onetrip.settings.settings import load_settings

BY_KEY = text("SELECT id, title, status, created_at FROM items WHERE id = :key")
router = APIRouter()


@router.get("/items/{key}", response_model=ItemOut)
def read(key: int, session: ReadSessionDep) -> Item | None:
    return session.get(Item, key)


@compiled
def item_by_key(key: int) -> Select[Item]:
    """The item with this key."""
    return select(Item).where(Item.id == key)


@compiled
def row_by_key(key: int) -> Select[int, str, str, datetime]:
    """The columns of the item with this key."""
    return select(Item.id, Item.title, Item.status, Item.created_at).where(Item.id == key)


@router.get("/compiled/{key}", response_model=ItemOut)
def read_compiled(key: int, session: ReadSessionDep) -> Item | None:
    return item_by_key.first(session, key)


@router.get("/compiled/{key}/row", response_model=ItemOut)
def read_compiled_row(key: int, session: ReadSessionDep) -> Row[int, str, str, datetime] | None:
    return row_by_key.first(session, key)


@router.get("/compiled/{key}/async", response_model=ItemOut)
async def read_compiled_async(key: int, session: AsyncReadSessionDep) -> Item | None:
    return await item_by_key.async_first(session, key)


@router.get("/sessionless/{key}", response_model=ItemOut)
def read_sessionless(key: int, database: DatabaseDep) -> Item | None:
    return item_by_key.first(database, key)


@router.get("/sessionless/{key}/async", response_model=ItemOut)
async def read_sessionless_async(key: int, database: DatabaseDep) -> Item | None:
    return await item_by_key.async_first(database, key)


# A step more in each, to be counted one by one.


@router.get("/layers/route/{key}", response_model=ItemOut)
def route(key: int) -> dict[str, Any]:
    return {**ITEM, "id": key}


@router.get("/layers/session/{key}", response_model=ItemOut)
def session_alone(key: int, session: ReadSessionDep) -> dict[str, Any]:  # noqa: ARG001  (not yet asked)
    return {**ITEM, "id": key}


@router.get("/layers/connection/{key}", response_model=ItemOut)
def connection_alone(key: int, session: ReadSessionDep) -> dict[str, Any]:
    session.connection()
    return {**ITEM, "id": key}


@router.get("/layers/text/{key}", response_model=ItemOut)
def query_as_text(key: int, session: ReadSessionDep) -> Row[Any]:
    return session.execute(BY_KEY, {"key": key}).one()


@router.get("/layers/transaction/{key}", response_model=ItemOut)
def in_transaction(key: int, session: SessionDep) -> Item | None:
    return session.get(Item, key)


@router.get("/layers/async/{key}", response_model=ItemOut)
async def in_async_session(key: int, session: AsyncReadSessionDep) -> Item | None:
    return await session.get(Item, key)


@router.get("/items/{key}/pair", response_model=PairOut)
def read_two(key: int, session: ReadSessionDep) -> dict[str, Any]:
    item, items = batch(
        session, select(Item).where(Item.id == key), select(func.count()).where(Item.id <= 1000)
    )
    return {"item": item.scalar_one(), "items": items.scalar_one()}


@router.post("/items", response_model=ItemOut, status_code=201)
def write(item: ItemIn, session: SessionDep) -> Item:
    statement = insert(Item).values(item.model_dump()).returning(Item)
    return session.scalars(statement, execution_options=LAST).one()


@router.post("/items/orm", response_model=ItemOut, status_code=201)
def add(item: ItemIn, session: SessionDep) -> Item:
    row = Item(**item.model_dump())
    session.add(row)
    session.flush()
    return row


@router.patch("/items/{key}", response_model=ItemOut)
def change(key: int, values: ItemChange, session: SessionDep) -> Item:
    row = session.get(Item, key)
    assert row is not None
    statement = update(Item).where(Item.id == key).values(values.model_dump()).returning(Item)
    return session.scalars(statement, execution_options=LAST).one()


@router.post("/items/bulk", status_code=201)
def add_many(number: Count, session: SessionDep) -> dict[str, int]:
    rows = [{"title": f"item {index}"} for index in range(number.count)]
    session.execute(insert(Item).values(rows), execution_options=LAST)
    return {"count": number.count}


def create_app(url: str) -> FastAPI:
    """Build the application as it is deployed, including the log line of each request."""
    database = Database(load_settings(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url))
    telemetry.install(database.settings)
    # As `api.application` makes it once its example is deleted.
    app = blank_application(database.settings)
    install(app, database)
    app.include_router(router)
    started(app)
    return app
