"""The source documents' design: SQLModel on asyncpg, every table made sure of at start-up.

Written as their text describes it: an async engine with a pre-ping on the direct URL, a session
dependency, `create_all` in the lifespan, which a first request waits for.
"""

import datetime as dt
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlmodel import Field, Relationship, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

engine = create_async_engine(
    os.environ["DATABASE_URL_UNPOOLED"]
    .replace("postgresql://", "postgresql+asyncpg://")
    .replace("sslmode=", "ssl="),
    pool_pre_ping=True,
    pool_recycle=3600,
    pool_size=5,
    max_overflow=10,
)
make_session = sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


async def get_session() -> AsyncGenerator[AsyncSession, None]:
    async with make_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


class UserRole(StrEnum):
    ADMIN = "admin"
    USER = "user"
    MODERATOR = "moderator"


class UserBase(SQLModel):
    username: str = Field(unique=True, min_length=3, max_length=50)
    email: str = Field(unique=True, min_length=5, max_length=100)


class User(UserBase, table=True):
    id: int | None = Field(default=None, primary_key=True)
    hashed_password: str = Field(min_length=8)
    role: UserRole = Field(default=UserRole.USER)
    is_active: bool = Field(default=True)
    created_at: dt.datetime = Field(default_factory=dt.datetime.utcnow)
    posts: list["Post"] = Relationship(back_populates="author")


class Post(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    title: str = Field(min_length=1, max_length=200)
    content: str = Field(min_length=1)
    author_id: int = Field(foreign_key="user.id")
    created_at: dt.datetime = Field(default_factory=dt.datetime.utcnow)
    updated_at: dt.datetime | None = Field(default=None)
    author: User = Relationship(back_populates="posts")


class UserCreate(UserBase):
    password: str = Field(min_length=8)


class UserRead(UserBase):
    id: int
    role: UserRole
    is_active: bool


class PostRead(SQLModel):
    id: int
    title: str
    content: str
    author_id: int


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/users/")
async def read_users(session: SessionDep) -> list[UserRead]:
    return list((await session.execute(select(User))).scalars().all())


@app.get("/users/{user_id}")
async def read_user(user_id: int, session: SessionDep) -> UserRead:
    user = (await session.execute(select(User).where(User.id == user_id))).scalar_one_or_none()
    if user is None:
        raise HTTPException(404, "User not found")
    return user


@app.post("/users/")
async def create_user(user: UserCreate, session: SessionDep) -> UserRead:
    row = User(**user.model_dump(exclude={"password"}), hashed_password=user.password)
    session.add(row)
    await session.commit()
    await session.refresh(row)
    return row


@app.get("/posts/{post_id}")
async def read_post(post_id: int, session: SessionDep) -> PostRead:
    post = await session.get(Post, post_id)
    if post is None:
        raise HTTPException(404, "Post not found")
    return post
