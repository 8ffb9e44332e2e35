"""An application for the package's tests: FastAPI, `install`, and routes over two tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy import insert, select

from lib.onetrip.connection.dialect import LAST
from lib.onetrip.fastapi.installation import install
from lib.onetrip.fastapi.sessions import ReadSessionDep, SessionDep
from lib.onetrip.pool.database import Database
from lib.onetrip.process import process
from tests.onetrip.tables import REVISIONS, Author

NAME = "Authors and books"
VERSION = "1.2.3"
router = APIRouter(prefix="/authors")


class AuthorIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=50)]
    email: Annotated[str, StringConstraints(max_length=320, pattern="^[^@]+@[^@]+$")]


class AuthorOut(BaseModel):
    id: int
    name: str
    email: str


@router.post("", status_code=201, response_model=AuthorOut)
def add(author: AuthorIn, session: SessionDep) -> Author:
    """Add an author."""
    statement = insert(Author).values(**author.model_dump()).returning(Author)
    return session.scalars(statement, execution_options=LAST).one()


@router.get("", response_model=list[AuthorOut])
def find_all(session: ReadSessionDep) -> Sequence[Author]:
    """The first hundred authors, by name."""
    return session.scalars(select(Author).order_by(Author.name).limit(100)).all()


@router.get("/{author_id}", response_model=AuthorOut)
def find(author_id: int, session: ReadSessionDep) -> Author:
    """Find an author by number."""
    if author := session.scalars(select(Author).where(Author.id == author_id)).one_or_none():
        return author
    raise HTTPException(404, "There is no such author.")


@process.cold_start.phase("application")
def create_app(database: Database) -> FastAPI:
    """The application on `database`."""
    shown = not database.settings.is_production
    app = FastAPI(
        title=NAME,
        version=VERSION,
        docs_url="/docs" if shown else None,
        redoc_url=None,
        openapi_url="/openapi.json" if shown else None,
        redirect_slashes=False,
        telemetry={"logs": False},
    )
    install(app, database, revisions=REVISIONS)
    app.include_router(router)
    return app
