import httpx2 as httpx
import pytest
from main import Author, Base, Item, app, async_session, engine, get_session
from sqlalchemy import func, select

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def tables(anyio_backend):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()


@pytest.fixture
async def session():
    async with engine.connect() as connection:
        transaction = await connection.begin()
        async with async_session(bind=connection, join_transaction_mode="create_savepoint") as session:
            yield session
        await transaction.rollback()


@pytest.fixture
async def client(session):
    app.dependency_overrides[get_session] = lambda: session
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        yield client
    app.dependency_overrides.clear()


async def test_create_and_read(client):
    created = await client.post("/items", json={"name": "poem"})
    assert created.status_code == 201
    assert (await client.get(f"/items/{created.json()['id']}")).json() == created.json()


async def test_each_test_is_rolled_back(client, session):
    assert (await client.get("/items")).json() == []
    session.add(Item(name="essay", author=Author(name="bob")))
    await session.commit()
    assert (await client.get("/items")).json() == ["essay by bob"]


async def test_an_author_is_made_once(client, session):
    for name in ("one", "two"):
        await client.post("/items", json={"name": name})
    assert await session.scalar(select(func.count()).select_from(Author)) == 1


async def test_missing(client):
    assert (await client.get("/items/1")).status_code == 404
    assert (await client.delete("/items/1")).status_code == 404


async def test_what_was_committed_stays_for_others():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        item = (await client.post("/items", json={"name": "kept"})).json()
        assert (await client.get("/items")).json() == ["kept by ada"]
        assert (await client.delete(f"/items/{item['id']}")).status_code == 204
        assert (await client.get("/items")).json() == []
