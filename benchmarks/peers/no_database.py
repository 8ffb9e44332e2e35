"""FastAPI alone: an answer without a database."""

import datetime as dt
from typing import Any

from fastapi import FastAPI

from benchmarks.peers.answers import ItemOut

ITEM = {"id": 1, "title": "item 1", "status": "todo", "created_at": dt.datetime.now(dt.UTC)}


def create_app(_url: str) -> FastAPI:
    app = FastAPI()

    @app.get("/items/{key}", response_model=ItemOut)
    async def read(key: int) -> dict[str, Any]:
        return {**ITEM, "id": key}

    return app
