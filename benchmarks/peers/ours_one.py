"""The package with the one endpoint of `no_database`, started as it is deployed."""

from lib.onetrip.fastapi.startup import started, starting

with starting():
    from fastapi import FastAPI

    from benchmarks.peers.answers import ItemOut
    from benchmarks.peers.items import Item
    from lib.onetrip.fastapi import ReadSessionDep, install
    from lib.onetrip.pool.database import database

app = FastAPI()
install(app, database())


@app.get("/items/{key}", response_model=ItemOut)
def read(key: int, session: ReadSessionDep) -> Item | None:
    return session.get(Item, key)


started(app)
