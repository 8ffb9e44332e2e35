"""Notes: write, list."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, StringConstraints
from sqlalchemy import select

from lib.models import Note
from lib.onetrip.fastapi.sessions import ReadSessionDep, SessionDep

router = APIRouter(prefix="/notes", tags=["notes"])


class NoteIn(BaseModel):
    text: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class NoteOut(BaseModel):
    id: int
    text: str


@router.post("", status_code=201, response_model=NoteOut)
def write(note: NoteIn, session: SessionDep) -> Note:
    """Write a note. It is committed before the 201 is sent."""
    written = Note(text=note.text)
    session.add(written)
    session.flush()
    return written


@router.get("", response_model=list[NoteOut])
def notes(session: ReadSessionDep) -> Sequence[Note]:
    """The last hundred notes."""
    return session.scalars(select(Note).order_by(Note.id.desc()).limit(100)).all()
