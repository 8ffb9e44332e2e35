import pytest
from fastapi.testclient import TestClient
from main import app, create_tables, engine
from sqlalchemy import text


@pytest.fixture(autouse=True)
def tables():
    create_tables()
    yield
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE items"))


@pytest.fixture
def client():
    return TestClient(app)


def count():
    with engine.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM items")).scalar()


def test_create_and_read(client):
    item_id = client.post("/items", json={"name": "rent", "amount": 5}).json()["id"]
    assert client.get(f"/items/{item_id}").json() == {"id": item_id, "name": "rent", "amount": 5}
    assert client.get("/items/0").status_code == 404


def test_a_refused_insert_stores_nothing(client):
    assert client.post("/items", json={"name": "rent", "amount": 5}).status_code == 201
    assert client.post("/items", json={"name": "rent", "amount": 6}).status_code == 409
    assert client.post("/items", json={"name": "food", "amount": 0}).status_code == 409
    assert count() == 1


def test_a_move_is_whole_or_nothing(client):
    first, second = (client.post("/items", json={"name": n, "amount": 5}).json()["id"] for n in "ab")
    assert client.post(f"/moves?source={first}&target={second}&amount=4").status_code == 201
    assert client.post(f"/moves?source={first}&target={second}&amount=4").status_code == 409
    assert [client.get(f"/items/{n}").json()["amount"] for n in (first, second)] == [1, 9]


def test_connections_by_hand(client):
    connection = engine.connect()
    connection.execute(text("INSERT INTO items (name, amount) VALUES ('x', 1)"))
    assert count() == 0
    connection.commit()
    connection.close()
    assert count() == 1
    raw = engine.raw_connection()
    with raw.cursor() as cursor:
        cursor.execute("INSERT INTO items (name, amount) VALUES (%s, %s)", ("y", 2))
    raw.rollback()
    raw.close()
    assert count() == 1
