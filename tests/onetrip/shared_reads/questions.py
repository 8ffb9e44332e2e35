"""Questions of every kind, at random: each knows its own answer, and which error is its own fault."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Integer, Select, Text, cast, func, select, text
from sqlalchemy.orm import Session

from lib.onetrip.connection.dialect import SETTINGS
from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.compiled import compiled
from lib.onetrip.session.session import async_transaction
from lib.onetrip.session.shared import async_sharing
from tests.onetrip.servers import Servers
from tests.onetrip.shared_reads.concurrent_reads import in_task, in_thread, without_session

SECONDS = 5.0
TIMED_OUT_SECONDS = 0.3
# What a busy machine may add to a deadline, beside what its event loop was seen to lag.
MARGIN_SECONDS = 0.5
HUNG_SECONDS = 30.0
OWNERS = 10

ECHO = text(
    "SELECT CAST(:n AS int) AS n, current_setting('app.caller', true) AS caller, "
    "repeat(CAST(:n AS text), CAST(:times AS int)) AS many"
)


@compiled
def echo(n: int, times: int) -> Select[int, str, str]:
    """The same, compiled once."""
    number = cast(n, Integer)
    many = func.repeat(cast(number, Text), cast(times, Integer))
    caller = func.current_setting("app.caller", True)
    return select(number.label("n"), caller.label("caller"), many.label("many"))


REFUSED = text("SELECT CAST(:n AS int), 1 / (CAST(:n AS int) - CAST(:n AS int))")
SLOW = text("SELECT CAST(:n AS int), pg_sleep(60)")
ENDING = text("SELECT CAST(:n AS int), pg_terminate_backend(pg_backend_pid())")
WRITING = text(
    "WITH made AS (INSERT INTO authors (name, email) VALUES (:n, :n) RETURNING id) SELECT id FROM made"
)
EXPECTED = {"refused": "22012", "writing": "25006", "timed_out": "57014"}
OWNED = text("SELECT owner, CAST(:n AS int) AS n FROM owned")
ROWS_OF_OWNERS = (
    "DO $$ BEGIN CREATE ROLE shared_caller; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    "CREATE TABLE owned (owner text)",
    "INSERT INTO owned SELECT 'caller-' || n FROM generate_series(0, 9) n",
    "ALTER TABLE owned ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON owned USING (owner = current_setting('app.caller', true))",
    "GRANT SELECT ON owned TO shared_caller",
)


def make_owners(servers: Servers, database_name: str) -> None:
    """A table whose rows each belong to a caller, and a role that sees the caller's alone."""
    for statement in ROWS_OF_OWNERS:
        servers.administer(statement, database_name)


@dataclass
class Outcomes:
    """The outcomes of all questions. `failed` are reads that did nothing to deserve it."""

    answered: Counter[str] = field(default_factory=Counter)
    mixed: list[object] = field(default_factory=list)
    late: list[object] = field(default_factory=list)
    hung: list[object] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    # Of sessions on connections of their own, which nothing asks again.
    others_failed: int = 0
    longest_seconds: float = 0.0
    # The longest time that the event loop itself was late.
    lag_seconds: float = 0.0

    @property
    def reads(self) -> int:
        """The reads that had a right to an answer."""
        return self.answered["read"] + self.answered["owned"] + len(self.failed)

    def __str__(self) -> str:
        return (
            f"{self.reads:,} reads: {len(self.mixed)} mixed, {len(self.late)} late, {len(self.hung)} hung, "
            f"{len(self.failed)} failed {Counter(self.failed).most_common(4)}; longest "
            f"{self.longest_seconds:.2f} s, loop's lag {self.lag_seconds:.2f} s; {dict(self.answered)}; "
            f"{self.others_failed} of connections of their own failed {self.mixed[:2]} {self.late[:2]}"
        )


class Questions:
    """Asks questions of every kind, and judges the answers."""

    def __init__(self, database: Database, chance: random.Random) -> None:
        self._database = database
        self._chance = chance
        self.outcomes = Outcomes()
        kinds: dict[Callable[[int], Awaitable[None]], float] = {
            self.read: 80,
            self.owned: 9,
            self.refused: 4,
            self.cancelled: 3,
            self.written: 2,
            self.writing: 1,
            self.timed_out: 0.5,
            self.ending: 0.3,
            self.streamed: 0.2,
        }
        self._kinds, self._weights = list(kinds), list(kinds.values())

    async def watch(self) -> None:
        """Note how late the event loop is, until cancelled."""
        while True:
            begin = time.monotonic()
            await asyncio.sleep(0.01)
            lag = time.monotonic() - begin - 0.01
            self.outcomes.lag_seconds = max(self.outcomes.lag_seconds, lag)

    async def ask(self, n: int) -> None:
        """Ask one question of some kind, and judge what becomes of it."""
        kind = self._chance.choices(self._kinds, self._weights)[0]
        name, outcomes, begin = kind.__name__, self.outcomes, time.monotonic()
        try:
            async with asyncio.timeout(HUNG_SECONDS):
                await kind(n)
            outcomes.answered[name] += 1
        except TimeoutError:
            outcomes.hung.append((name, n))
        except Exception as error:  # noqa: BLE001  (judged)
            code = getattr(getattr(error, "orig", None), "sqlstate", None)
            if code is not None and code == EXPECTED.get(name):
                outcomes.answered[f"{name} {code}"] += 1
            elif name in ("read", "owned", *EXPECTED):
                outcomes.failed.append(f"{name} {code} {str(error).splitlines()[0]}"[:160])
            else:
                outcomes.others_failed += name != "ending"
        seconds = time.monotonic() - begin
        outcomes.longest_seconds = max(outcomes.longest_seconds, seconds)
        # An answer that is asked again passes the loop twice.
        if seconds > SECONDS + MARGIN_SECONDS + 2 * outcomes.lag_seconds:
            outcomes.late.append((name, n, round(seconds, 2)))

    def _judge(self, found: object, expected: object) -> None:
        if found != expected:
            self.outcomes.mixed.append((found, expected))

    async def _asked(
        self, statement: Any, parameters: dict[str, Any], settings: dict[str, str], seconds: float = SECONDS
    ) -> list[Any]:
        """The rows, in a task or in a thread."""
        options = {SETTINGS: settings} if settings else {}
        if self._chance.random() < 0.7:
            return list(await in_task(self._database, statement, parameters, options, seconds))

        def query(session: Session) -> list[Any]:
            return list(session.execute(statement, parameters).all())

        return list(await in_thread(self._database, query, options, seconds))

    async def _asked_as_text(self, n: int, times: int, settings: dict[str, str]) -> list[Any]:
        return await self._asked(ECHO, {"n": n, "times": times}, settings)

    async def _echoed(self, n: int, times: int, settings: dict[str, str]) -> list[Any]:
        """The rows of the compiled query, in a task or in a thread, of a session or of the database."""
        database, in_a_task = self._database, self._chance.random() < 0.7
        if not settings and self._chance.random() < 0.5:
            if in_a_task:
                return list(await without_session(echo.async_all(database, n, times)))
            return list(await without_session(lambda: echo.all(database, n, times)))
        options = {SETTINGS: settings} if settings else {}
        if not in_a_task:
            return list(
                await in_thread(database, lambda session: echo.all(session, n, times), options, SECONDS)
            )
        with deadline(SECONDS):
            async with async_sharing(database, options) as session:
                return list(await echo.async_all(session, n, times))

    # Kinds of questions.

    async def read(self, n: int) -> None:
        """Its own number, caller and number of bytes; one in four has no caller."""
        caller = None if self._chance.random() < 0.25 else f"caller-{n}"
        times = self._chance.choice([0, 1, 1, 1, 10, 2000])
        settings = {"app.caller": caller} if caller else {}
        ask = self._echoed if self._chance.random() < 0.4 else self._asked_as_text
        rows = await ask(n, times, settings)
        found = [(row.n, row.caller or None, row.many) for row in rows]
        self._judge(found, [(n, caller, str(n) * times)])

    async def owned(self, n: int) -> None:
        """The rows of its own caller, by role and setting."""
        caller = f"caller-{n % OWNERS}"
        rows = await self._asked(OWNED, {"n": n}, {"role": "shared_caller", "app.caller": caller})
        self._judge([tuple(row) for row in rows], [(caller, n)])

    async def refused(self, n: int) -> None:
        """An error of its own."""
        await self._asked(REFUSED, {"n": n}, {"app.caller": f"refused-{n}"})
        self._judge("no error", "22012")

    async def writing(self, n: int) -> None:
        """A write, which a read cannot."""
        await self._asked(WRITING, {"n": f"writing-{n}"}, {})
        self._judge("written", "25006")

    async def timed_out(self, n: int) -> None:
        """A statement that takes longer than it may."""
        await self._asked(SLOW, {"n": n}, {"app.caller": f"slow-{n}"}, TIMED_OUT_SECONDS)
        self._judge("no error", "57014")

    async def cancelled(self, n: int) -> None:
        """A read that is cancelled, at any moment of it."""
        try:
            async with asyncio.timeout(self._chance.random() * 0.01):
                rows = await in_task(self._database, ECHO, {"n": n, "times": 1}, {}, SECONDS)
        except TimeoutError:
            return
        self._judge(rows[0].n, n)

    async def ending(self, n: int) -> None:
        """A statement that ends the server's process."""
        await self._asked(ENDING, {"n": n}, {})

    async def streamed(self, n: int) -> None:
        """A stream, on a connection of its own."""

        def query(session: Session) -> list[Any]:
            streamed = session.execute(
                text("SELECT CAST(:n AS int) FROM generate_series(1, 3)"),
                {"n": n},
                execution_options={"yield_per": 1},
            )
            return list(streamed.scalars().all())

        self._judge(await in_thread(self._database, query, {}, SECONDS), [n] * 3)

    async def written(self, n: int) -> None:
        """A transaction, which shares nothing: it must see no other's answer either."""
        with deadline(SECONDS):
            async with async_transaction(
                self._database, {SETTINGS: {"app.caller": f"writer-{n}"}}
            ) as session:
                row = (await session.execute(ECHO, {"n": n, "times": 1})).one()
        self._judge((row.n, row.caller), (n, f"writer-{n}"))
