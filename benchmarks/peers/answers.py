"""The requests that every design answers."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class ItemIn(BaseModel):
    title: str


class ItemChange(BaseModel):
    status: str


class Count(BaseModel):
    count: int


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    title: str
    status: str
    created_at: datetime


class PairOut(BaseModel):
    item: ItemOut
    items: int
