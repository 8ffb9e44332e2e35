import pytest
from database import Base, SessionLocal, engine, get_db
from fastapi.testclient import TestClient
from main import Item, app


@pytest.fixture(autouse=True)
def tables():
    Base.metadata.create_all(bind=engine)
    yield
    Base.metadata.drop_all(bind=engine)


@pytest.fixture
def db():
    session = SessionLocal()
    yield session
    session.close()


@pytest.fixture
def client(db):
    app.dependency_overrides[get_db] = lambda: db
    yield TestClient(app)
    app.dependency_overrides.clear()


def test_create_and_read(client):
    created = client.post("/items", json={"name": "hammer"})
    assert created.status_code == 201
    assert client.get(f"/items/{created.json()['id']}").json() == created.json()


def test_rows_of_a_fixture_are_seen(client, db):
    db.add(Item(name="saw", description="sharp"))
    db.commit()
    assert [item["name"] for item in client.get("/items").json()] == ["saw"]


def test_name_taken(client):
    assert client.post("/items", json={"name": "hammer"}).status_code == 201
    assert client.post("/items", json={"name": "hammer"}).status_code == 409
    assert len(client.get("/items").json()) == 1


def test_delete(client):
    item_id = client.post("/items", json={"name": "hammer"}).json()["id"]
    assert client.delete(f"/items/{item_id}").status_code == 204
    assert client.get(f"/items/{item_id}").status_code == 404


def test_without_override():
    with TestClient(app) as client:
        assert client.post("/items", json={"name": "nail"}).status_code == 201
        assert len(client.get("/items").json()) == 1
