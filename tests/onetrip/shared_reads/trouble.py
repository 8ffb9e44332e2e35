"""Trouble on the way: connections end, fall silent or lie, at random moments and in every way there is."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.onetrip import pgbouncer
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import message
from tests.onetrip.servers import Servers

# Silence costs its readers half of their time, so it comes last and seldom.
SILENCE_EVERY = 15
_FATAL = message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")
_END_ONE = (
    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = '{}' "
    "AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS one"
)


@dataclass
class Trouble:
    """All that befalls the connections through `proxy`; `pooler` is behind it, if there is one."""

    proxy: Proxy
    servers: Servers
    database: str
    pooler: pgbouncer.PgBouncer | None
    every_seconds: float
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    async def go_on(self) -> None:
        """Do one thing after the other until cancelled."""
        acts: list[Callable[[], object]] = [self.end, self.reset, self.hang_up, self.fatal, self.cut]
        if self.pooler:
            acts.append(self.reconnect)
        # A thread of its own: the others are full of reads.
        with ThreadPoolExecutor(1) as thread:
            while True:
                await asyncio.sleep(self.every_seconds * self.chance.uniform(0.5, 1.5))
                is_silent = (self.counts.total() + 1) % SILENCE_EVERY == 0
                act = self.forget if is_silent else self.chance.choice(acts)
                self.counts[act.__name__] += 1
                await asyncio.get_running_loop().run_in_executor(thread, act)

    def end(self) -> None:
        """End one of the server's processes."""
        self.servers.administer(_END_ONE.format(self.database))

    def reconnect(self) -> None:
        """Let the pooler renew its connections."""
        assert self.pooler
        self.pooler.command(f"RECONNECT {self.database}")

    def reset(self) -> None:
        """End all connections with RST."""
        self.proxy.reset()

    def hang_up(self) -> None:
        """End all connections with FIN."""
        self.proxy.hang_up()

    def forget(self) -> None:
        """Let all connections of now fall silent for ever."""
        self.proxy.forget()

    def fatal(self) -> None:
        """Say what a pooler or server says when it ends a session, in the middle of anything."""
        self.proxy.say(_FATAL)

    def cut(self) -> None:
        """End all connections after some more bytes, in the middle of a message."""
        with self.proxy.cut_after(self.chance.randrange(1, 20_000)) as happened:
            for _ in range(50):
                if happened():
                    return
                self._wait()

    def _wait(self) -> None:
        # The proxy runs in a thread of its own.
        asyncio.run(asyncio.sleep(0.01))
