import pytest
from fastapi.testclient import TestClient
from main import Hero, app, engine, get_session
from sqlmodel import Session, SQLModel


@pytest.fixture(name="session")
def session_fixture():
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    SQLModel.metadata.drop_all(engine)


@pytest.fixture(name="client")
def client_fixture(session: Session):
    app.dependency_overrides[get_session] = lambda: session
    with TestClient(app) as client:
        yield client
    app.dependency_overrides.clear()


def test_create_hero(client: TestClient):
    response = client.post("/heroes/", json={"name": "Deadpond", "secret_name": "Dive Wilson"})
    data = response.json()
    assert response.status_code == 201
    assert data["name"] == "Deadpond"
    assert data["id"] is not None


def test_create_hero_incomplete(client: TestClient):
    assert client.post("/heroes/", json={"name": "Deadpond"}).status_code == 422


def test_read_heroes(session: Session, client: TestClient):
    session.add(Hero(name="Deadpond", secret_name="Dive Wilson"))
    session.add(Hero(name="Rusty-Man", secret_name="Tommy Sharp", age=48))
    session.commit()
    data = client.get("/heroes/").json()
    assert [(hero["name"], hero["age"]) for hero in data] == [("Deadpond", None), ("Rusty-Man", 48)]


def test_update_hero(session: Session, client: TestClient):
    hero = Hero(name="Deadpond", secret_name="Dive Wilson")
    session.add(hero)
    session.commit()
    data = client.patch(f"/heroes/{hero.id}", json={"name": "Deadpuddle"}).json()
    assert data["name"] == "Deadpuddle"
    assert data["id"] == hero.id


def test_delete_hero(session: Session, client: TestClient):
    hero = Hero(name="Deadpond", secret_name="Dive Wilson")
    session.add(hero)
    session.commit()
    assert client.delete(f"/heroes/{hero.id}").status_code == 200
    assert session.get(Hero, hero.id) is None
