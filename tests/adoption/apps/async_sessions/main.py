import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

DATABASE_URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")

engine = create_async_engine(DATABASE_URL, pool_recycle=300, connect_args={"statement_cache_size": 0})
async_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship()


class ItemIn(BaseModel):
    name: str
    author: str = "ada"


class ItemOut(BaseModel):
    id: int
    name: str


async def get_session() -> AsyncIterator[AsyncSession]:
    async with async_session() as session:
        try:
            yield session
            await session.commit()
        except Exception:
            await session.rollback()
            raise


SessionDep = Annotated[AsyncSession, Depends(get_session)]
app = FastAPI()


@app.get("/items/{item_id}")
async def read_item(item_id: int, session: SessionDep) -> ItemOut:
    item = await session.get(Item, item_id)
    if item is None:
        raise HTTPException(404)
    return ItemOut(id=item.id, name=item.name)


@app.get("/items")
async def read_items(session: SessionDep) -> list[str]:
    items = await session.scalars(select(Item).options(selectinload(Item.author)).order_by(Item.id))
    return [f"{item.name} by {item.author.name}" for item in items]


@app.post("/items", status_code=201)
async def create_item(item: ItemIn, session: SessionDep) -> ItemOut:
    author = await session.scalar(select(Author).where(Author.name == item.author))
    if author is None:
        author = Author(name=item.author)
    new = Item(name=item.name, author=author)
    session.add(new)
    await session.flush()
    return ItemOut(id=new.id, name=new.name)


@app.delete("/items/{item_id}", status_code=204)
async def delete_item(item_id: int, session: SessionDep) -> None:
    item = await session.get(Item, item_id)
    if item is None:
        raise HTTPException(404)
    await session.delete(item)
