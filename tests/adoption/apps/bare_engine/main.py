import os

import sqlalchemy
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

engine = sqlalchemy.create_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"), pool_pre_ping=True
)
app = FastAPI()


class Payment(BaseModel):
    name: str
    amount: int


def create_tables():
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE IF NOT EXISTS items (id serial PRIMARY KEY, name text UNIQUE, amount int CHECK (amount > 0))"
            )
        )


@app.exception_handler(IntegrityError)
def not_stored(request: Request, error: IntegrityError):
    return JSONResponse({"detail": "refused"}, status_code=409)


@app.get("/items/{item_id}")
def read(item_id: int):
    with engine.connect() as connection:
        row = (
            connection.execute(text("SELECT id, name, amount FROM items WHERE id = :id"), {"id": item_id})
            .mappings()
            .first()
        )
    if row is None:
        raise HTTPException(404)
    return dict(row)


@app.post("/items", status_code=201)
def create(payment: Payment):
    with engine.begin() as connection:
        statement = text("INSERT INTO items (name, amount) VALUES (:name, :amount) RETURNING id")
        item_id = connection.execute(statement, payment.model_dump()).scalar_one()
    return {"id": item_id}


@app.post("/moves", status_code=201)
def move(source: int, target: int, amount: int):
    with engine.begin() as connection:
        statement = text("UPDATE items SET amount = amount + :amount WHERE id = :id")
        connection.execute(statement, {"id": target, "amount": amount})
        connection.execute(statement, {"id": source, "amount": -amount})
    return {"moved": amount}
