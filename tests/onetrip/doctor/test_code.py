"""The doctor reads code: each mistake is found on its line, and what is right is left alone."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from lib.onetrip.doctor.__main__ import ALL_GOOD, WARNINGS, WRONG, main
from lib.onetrip.doctor.code.module import Module
from lib.onetrip.doctor.code.project import Project
from lib.onetrip.doctor.code.rules import BY_ID, RULES, examine

if TYPE_CHECKING:
    from pathlib import Path

# By rule: offenders, each marked where it is found, and what looks alike and is right.
TABLE: dict[str, tuple[list[str], list[str]]] = {
    "commit-after-response": (
        [
            """
            def get_db():
                db = SessionLocal()
                try:
                    yield db
                    db.commit()  # here
                finally:
                    db.close()

            @app.post("/items")
            def add(db: Session = Depends(get_db)): ...
            """,
            """
            async def get_session():
                async with async_session() as session:
                    async with session.begin():  # here
                        yield session

            SessionDep = Annotated[AsyncSession, Depends(get_session)]
            """,
            """
            def get_db():
                with SessionLocal.begin() as db:  # here
                    yield db

            router = APIRouter(dependencies=[Depends(get_db)])
            """,
        ],
        [
            """
            def get_db():
                with SessionLocal.begin() as db:
                    yield db

            @app.post("/items")
            def add(db: Session = Depends(get_db, scope="function")): ...
            """,
            """
            def get_db():
                with SessionLocal() as db:
                    yield db

            @app.post("/items")
            def add(db: Session = Depends(get_db)):
                db.add(Item())
                db.commit()
            """,
        ],
    ),
    "engine-per-call": (
        [
            """
            def get_db():
                engine = create_engine(url, pool_pre_ping=True)  # here
                with Session(engine) as db:
                    yield db

            @app.get("/")
            def read(db: Session = Depends(get_db)): ...
            """,
            """
            import sqlalchemy as sa

            @router.get("/items")
            def read():
                engine = sa.create_engine(url, poolclass=NullPool)  # here
                return engine.connect().execute(query).all()
            """,
            """
            def handler(event, context):
                with create_engine(url, pool_pre_ping=True).connect() as connection:  # here
                    return connection.execute(query).all()
            """,
        ],
        [
            """
            @lru_cache
            def get_engine():
                return create_engine(url, pool_pre_ping=True)
            """,
            """
            def create_app(url):
                engine = create_engine(url, pool_pre_ping=True)

                def get_db():
                    with Session(engine) as db:
                        yield db

                return routes(FastAPI(), get_db)
            """,
            """
            def main():
                engine = create_engine(url, pool_pre_ping=True)
                with engine.begin() as connection:
                    connection.execute(query)
                engine.dispose()
            """,
            """
            class Database:
                def __init__(self, url):
                    self.engine = create_engine(url, pool_pre_ping=True)
            """,
        ],
    ),
    "lifespan-dispose": (
        [
            """
            from mangum import Mangum

            @asynccontextmanager
            async def lifespan(app):
                yield
                await engine.dispose()  # here

            handler = Mangum(FastAPI(lifespan=lifespan))
            """,
            """
            @app.on_event("shutdown")
            def stop():
                engine.dispose()  # here

            handler = Mangum(app, lifespan="auto")
            """,
        ],
        [
            """
            @asynccontextmanager
            async def lifespan(app):
                yield
                await engine.dispose()

            handler = Mangum(FastAPI(lifespan=lifespan), lifespan="off")
            """,
            """
            @asynccontextmanager
            async def lifespan(app):
                yield
                await engine.dispose()
            """,
        ],
    ),
    "session-set": (
        [
            'def f(db):\n    db.execute(text("SET search_path TO tenant"))  # here',
            'def f(db):\n    db.execute(text(f"SET app.user_id = {user}"))  # here',
            'def f(c):\n    c.exec_driver_sql("set session statement_timeout = 5000")  # here',
            "def f(db):\n    db.execute(text(\"SELECT set_config('app.user', :id, false)\"), {})  # here",
        ],
        [
            'def f(db):\n    db.execute(text("SET LOCAL search_path TO tenant"))',
            "def f(db):\n    db.execute(text(\"SELECT set_config('app.user', :id, true)\"), {})",
            'def f(db):\n    db.execute(text("UPDATE users SET name = :name"), {})',
            'def f(db):\n    db.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))',
            'url = DATABASE_URL_UNPOOLED\ndef f(c):\n    c.execute("SET search_path TO tenant")',
        ],
    ),
    "listen": (
        [
            'def f(c):\n    c.execute("LISTEN orders")  # here',
            'async def f(c):\n    await c.add_listener("orders", told)  # here',
        ],
        [
            'url = os.environ["DATABASE_URL_UNPOOLED"]\ndef f(c):\n    c.execute("LISTEN orders")',
            'def f(c):\n    c.execute("NOTIFY orders")',
            'def f(log):\n    log.info("LISTEN carefully")',
        ],
    ),
    "session-lock": (
        [
            'def f(db):\n    db.execute(text("SELECT pg_advisory_lock(1)"))  # here',
            'def f(db):\n    db.execute(text("SELECT pg_try_advisory_lock(:key)"), {})  # here',
            "def f(db):\n    db.scalar(select(func.pg_advisory_lock(1)))  # here",
        ],
        [
            'def f(db):\n    db.execute(text("SELECT pg_advisory_xact_lock(1)"))',
            "def f(db):\n    db.scalar(select(func.pg_advisory_xact_lock(1)))",
        ],
    ),
    "pool-times-instances": (
        [
            """
            handler = Mangum(app, lifespan="off")
            engine = create_engine(url, pool_size=20, max_overflow=10, pool_pre_ping=True)  # here
            """,
            """
            handler = Mangum(app, lifespan="off")
            engine = create_async_engine(url, pool_recycle=300)  # here
            """,
        ],
        [
            "engine = create_engine(url, pool_size=20, max_overflow=10, pool_pre_ping=True)",
            """
            handler = Mangum(app, lifespan="off")
            engine = create_engine(url, pool_size=2, max_overflow=0, pool_pre_ping=True)
            """,
            """
            from onetrip import create_engine
            handler = Mangum(app, lifespan="off")
            engine = create_engine(url)
            """,
        ],
    ),
    "pool-without-ping": (
        [
            "engine = create_engine(url)  # here",
            "import sqlalchemy\nengine = sqlalchemy.create_engine(settings.database_url, echo=True)  # here",
            'engine = create_async_engine("postgresql+psycopg://u@localhost/d", pool_pre_ping=False)  # here',
        ],
        [
            "engine = create_engine(url, pool_pre_ping=True)",
            "engine = create_engine(url, pool_recycle=240)",
            "engine = create_engine(url, poolclass=NullPool)",
            "engine = create_engine('sqlite:///test.db')",
            "engine = create_engine(url, **options)",
            "import onetrip\nengine = onetrip.create_engine(url)",
            "from lib.onetrip import create_async_engine\nengine = create_async_engine(url)",
            "engine = create_engine('postgresql+onetrip://u@h/d')",
        ],
    ),
    "sync-in-async": (
        [
            """
            @app.get("/items")
            async def read(db: Session = Depends(get_db)):  # here
                return db.scalars(select(Item)).all()
            """,
            """
            SessionDep = Annotated[Session, Depends(get_db)]

            @router.post("/items")
            async def add(item: Item, session: SessionDep):  # here
                session.add(item)
            """,
            """
            SessionLocal = sessionmaker(engine)

            async def work():
                with SessionLocal() as session:  # here
                    session.execute(query)
            """,
            """
            async def work():
                with engine.begin() as connection:  # here
                    connection.execute(query)
            """,
        ],
        [
            """
            @app.get("/items")
            def read(db: Session = Depends(get_db)):
                return db.scalars(select(Item)).all()
            """,
            """
            @app.get("/items")
            async def read(db: AsyncSession = Depends(get_db)):
                async with other_engine.begin() as connection:
                    await connection.execute(query)
            """,
            """
            async def work():
                def inner():
                    with Session(engine) as session:
                        return session.execute(query)
                return await run_in_threadpool(inner)
            """,
        ],
    ),
    "connects-at-import": (
        [
            "Base.metadata.create_all(bind=engine)  # here",
            "SQLModel.metadata.create_all(engine)  # here",
            """
            engine = create_engine(url, pool_pre_ping=True)
            with engine.connect() as connection:  # here
                connection.execute(query)
            """,
        ],
        [
            "def create_tables():\n    Base.metadata.create_all(engine)",
            'if __name__ == "__main__":\n    Base.metadata.create_all(engine)',
        ],
    ),
    "statement-cache": (
        [
            'engine = create_async_engine("postgresql+asyncpg://u@h/d", pool_pre_ping=True)  # here',
            """
            url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
            engine = create_async_engine(url, pool_pre_ping=True)  # here
            """,
            "import asyncpg\nasync def start():\n    return await asyncpg.create_pool(url)  # here",
        ],
        [
            """
            engine = create_async_engine(
                "postgresql+asyncpg://u@h/d", pool_pre_ping=True, connect_args={"statement_cache_size": 0}
            )
            """,
            'engine = create_async_engine("postgresql+psycopg://u@h/d", pool_pre_ping=True)',
        ],
    ),
    "background-session": (
        [
            """
            @app.post("/orders")
            def order(tasks: BackgroundTasks, db: Session = Depends(get_db)):
                tasks.add_task(send_mail, db, 1)  # here
            """,
            """
            @app.post("/orders")
            async def order(session: AsyncSession = Depends(get_db)):
                asyncio.create_task(send_mail(session))  # here
            """,
        ],
        [
            """
            @app.post("/orders")
            def order(tasks: BackgroundTasks, db: Session = Depends(get_db)):
                tasks.add_task(send_mail, 1)
            """,
        ],
    ),
    "streamed-session": (
        [
            """
            @app.get("/export")
            def export(db: Session = Depends(get_db)):
                def rows():
                    yield from db.scalars(query)

                return StreamingResponse(rows())  # here
            """,
            """
            @app.get("/export")
            def export(db: Session = Depends(get_db)):
                return StreamingResponse(lines(db))  # here
            """,
        ],
        [
            """
            @app.get("/export")
            def export(db: Session = Depends(get_db)):
                name = db.scalar(query)

                def rows():
                    with Session(engine) as session:
                        yield from session.scalars(query)

                return StreamingResponse(rows(), headers={"x": name})
            """,
        ],
    ),
    "prints-url": (
        [
            "print(DATABASE_URL)  # here",
            'logger.info("connecting to %s", settings.database_url)  # here',
            'logging.debug(f"using {os.environ["DATABASE_URL"]}")  # here'.replace(
                '["DATABASE_URL"]', "['DATABASE_URL']"
            ),
            "print(engine.url.render_as_string(hide_password=False))  # here",
        ],
        [
            "print(engine.url)",
            'print("set DATABASE_URL first")',
            'logger.info("%s", settings.database_url.host)',
        ],
    ),
    "hard-coded-secret": (
        [
            'URL = "postgresql://ada:Zx8kQ2pW@ep-a-1.eu-central-1.aws.neon.tech/db"  # here',
            'SECRET_KEY = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"  # here',
            'JWT_SECRET: str = "do-not-tell-anybody"  # here',
        ],
        [
            'URL = "postgresql://postgres:postgres@localhost:5432/app"',
            'URL = f"postgresql://{user}:{password}@{host}/db"',
            'SECRET_KEY = os.environ["SECRET_KEY"]',
            'HINT = "Use postgresql://user:password@host/database."',
            'DB_SECRET = "arn:aws:secretsmanager:us-east-1:1:secret:database-url"',
        ],
    ),
    "expires-on-commit": (
        [
            "factory = async_sessionmaker(engine)  # here",
            "factory = sessionmaker(engine, class_=AsyncSession)  # here",
            "async def f():\n    async with AsyncSession(engine) as session: ...  # here",
        ],
        [
            "factory = async_sessionmaker(engine, expire_on_commit=False)",
            "factory = sessionmaker(engine)",
        ],
    ),
    "swallowed-error": (
        [
            """
            @app.post("/users")
            def add(db: Session = Depends(get_db)):
                try:
                    db.add(User())
                    db.flush()
                except IntegrityError:  # here
                    existing = db.scalar(query)
                return existing
            """,
            """
            def save(session):
                try:
                    session.commit()
                except:  # here
                    pass
            """,
        ],
        [
            """
            def save(session):
                try:
                    session.flush()
                except IntegrityError:
                    session.rollback()
            """,
            """
            def save(session):
                try:
                    session.commit()
                except Exception as error:
                    raise HTTPException(409) from error
            """,
            """
            def save(session):
                try:
                    with session.begin_nested():
                        session.flush()
                except IntegrityError:
                    pass
            """,
            """
            def save():
                try:
                    with Session(engine) as session:
                        session.execute(query)
                except Exception:
                    return None
            """,
        ],
    ),
    "calls-out": (
        [
            """
            import requests

            def pay():
                with SessionLocal() as db:
                    order = db.get(Order, 1)
                    requests.post(url, json={"total": order.total})  # here

            SessionLocal = sessionmaker(engine)
            """,
            """
            import httpx

            @app.post("/pay")
            async def pay(session: AsyncSession = Depends(get_session)):
                order = await session.get(Order, 1)
                async with httpx.AsyncClient() as client:
                    await client.post(url)  # here
            """,
        ],
        [
            """
            import httpx

            @app.post("/pay")
            async def pay(session: AsyncSession = Depends(get_session)):
                order = await session.get(Order, 1)
                await session.commit()
                async with httpx.AsyncClient() as client:
                    await client.post(url)
            """,
            """
            import requests

            @app.post("/pay")
            def pay(session: Session = Depends(get_session)):
                answer = requests.post(url)
                session.add(Payment(answer.json()))
            """,
        ],
    ),
    "middleware-session": (
        [
            """
            class DBSessionMiddleware(BaseHTTPMiddleware):
                async def dispatch(self, request, call_next):
                    request.state.db = SessionLocal()  # here
                    try:
                        return await call_next(request)
                    finally:
                        request.state.db.close()

            SessionLocal = sessionmaker(engine)
            """,
            """
            @app.middleware("http")
            async def audit(request, call_next):
                async with AsyncSession(engine, expire_on_commit=False) as session:  # here
                    return await call_next(request)
            """,
        ],
        [
            """
            @app.middleware("http")
            async def audit(request, call_next):
                response = await call_next(request)
                async with AsyncSession(engine, expire_on_commit=False) as session:
                    await session.execute(query)
                return response
            """,
        ],
    ),
    "shared-session": (
        [
            "SessionLocal = sessionmaker(engine)\ndb = SessionLocal()  # here",
            "session = Session(engine)  # here",
        ],
        [
            "SessionLocal = sessionmaker(engine)",
            "def f():\n    session = Session(engine)\n    return session",
            "sessions = scoped_session(sessionmaker(engine))",
        ],
    ),
    "gathered-session": (
        [
            """
            async def read(session: AsyncSession):
                return await asyncio.gather(session.scalar(first), session.scalar(second))  # here
            """,
            """
            async def read(session):
                return await asyncio.gather(*(session.get(Item, key) for key in keys))  # here
            """,
        ],
        [
            """
            async def read(session: AsyncSession):
                return await asyncio.gather(session.scalar(first), client.get(url))
            """,
        ],
    ),
}
OFFENDERS = [(rule, source) for rule, (offenders, _) in TABLE.items() for source in offenders]
INNOCENTS = [(rule, source) for rule, (_, innocents) in TABLE.items() for source in innocents]


def found(source: str) -> list[tuple[int, str]]:
    """The lines of a file and the mistakes on them."""
    return [(place.line, place.rule) for place in examine(Project([Module("file.py", dedent(source))]))]


def test_every_rule_is_shown() -> None:
    """Each rule of the doctor's has offenders and innocents here, and there are twenty and one."""
    assert [*TABLE] == [*BY_ID] == [rule.id for rule in RULES]
    assert len(TABLE) == 21
    assert all(offenders and innocents for offenders, innocents in TABLE.values())


@pytest.mark.parametrize(("rule", "source"), OFFENDERS)
def test_an_offender_is_found_on_its_line(rule: str, source: str) -> None:
    """The mistake is found where the comment says, once, and no other is found with it."""
    marked = [number for number, text in enumerate(dedent(source).splitlines(), 1) if "# here" in text]
    assert found(source) == [(marked[0], rule)]


@pytest.mark.parametrize(("rule", "source"), INNOCENTS)
def test_an_innocent_is_left_alone(rule: str, source: str) -> None:
    """Similar but correct code raises no alarm, of this rule or another."""
    assert found(source) == [], rule


def test_a_line_may_say_that_it_means_it() -> None:
    """A comment with the rule's id keeps that rule away from its line, and no other."""
    assert found("engine = create_engine(url)  # doctor: pool-without-ping") == []
    assert found("engine = create_engine(url)  # doctor: listen") == [(1, "pool-without-ping")]


def test_names_hold_across_files() -> None:
    """A dependency in one file and its use in another are seen together, and so is the platform."""
    dependency = Module("db.py", "def get_db():\n    with Session.begin() as db:\n        yield db\n")
    route = Module("routes.py", "from db import get_db\n@app.get('/')\ndef f(db=Depends(get_db)): ...\n")
    assert [str(place.path) for place in examine(Project([dependency, route]))] == ["db.py"]
    assert examine(Project([dependency])) == []


def test_the_report_names_line_mistake_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1, and a folder's tests and environments are left out."""
    (tmp_path / "app.py").write_text("\n\nengine = create_engine(url)\n")
    for folder in ("tests", ".venv", "node_modules"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "other.py").write_text("engine = create_engine(url)\n")
    (tmp_path / "test_app.py").write_text("engine = create_engine(url)\n")
    assert main(["--code", str(tmp_path)]) == WARNINGS
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[!] app.py:3 pool-without-ping  idle connections die")
    assert lines[1].strip() == f"→ {BY_ID['pool-without-ping'].remedy}"
    assert lines[2:] == ["0 wrong, 1 to look at."]
    assert main(["--code", str(tmp_path), "--json"]) == WARNINGS
    assert [check["id"] for check in json.loads(capsys.readouterr().out)["checks"]] == [
        "app.py:3 pool-without-ping"
    ]


def test_a_platforms_file_makes_it_serverless(tmp_path: Path) -> None:
    """Beside vercel.json or serverless.yml a large pool is a mistake; elsewhere it may be right."""
    (tmp_path / "app.py").write_text("engine = create_engine(url, pool_size=20, pool_pre_ping=True)\n")
    assert examine(Project.read(tmp_path)[0]) == []
    (tmp_path / "vercel.json").write_text("{}")
    assert [place.rule for place in examine(Project.read(tmp_path)[0])] == ["pool-times-instances"]


def test_what_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no Python is named, a folder without any is an error, and nothing raises."""
    (tmp_path / "good.py").write_text("x = 1\n")
    assert main(["--code", str(tmp_path)]) == ALL_GOOD
    (tmp_path / "bad.py").write_bytes(b"\xff\xfe\x00def")
    (tmp_path / "worse.py").write_text("def (:\n")
    assert main(["--code", str(tmp_path)]) == WARNINGS
    assert main(["--code", str(tmp_path / "good.py")]) == ALL_GOOD
    (tmp_path / "empty").mkdir()
    assert main(["--code", str(tmp_path / "empty")]) == WRONG
    assert main(["--code", str(tmp_path / "absent")]) == WRONG
    said = capsys.readouterr().out
    assert "bad.py" in said
    assert "worse.py" in said
