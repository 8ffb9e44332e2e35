"""The designs that are compared, with their names in every table and picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Endpoint = Literal["pooled", "direct"]


@dataclass(frozen=True)
class Design:
    """A module of `peers`, its name for readers, and the endpoint that its source connects to."""

    module: str
    name: str
    endpoint: Endpoint
    # The kind in pictures: ours, a peer, or the limit.
    kind: Literal["ours", "peer", "limit"] = "peer"

    @property
    def package(self) -> str:
        """The module of its `create_app`."""
        return f"benchmarks.peers.{self.module}"


OURS = Design("ours", "this project", "pooled", "ours")
TEMPLATE = Design("template", "create_engine(url)", "direct")
SYNC_PING = Design("sync_ping", "sync, 5 + 10, ping", "direct")
SQLMODEL = Design("sqlmodel_asyncpg", "SQLModel, asyncpg, ping", "direct")
LARGE_POOL = Design("large_pool", "sync, 20 + 10", "direct")
SESSION_MANAGER = Design("session_manager", "session manager, asyncpg", "direct")
TUNED = Design("tuned_asyncpg", "SQLAlchemy, asyncpg, tuned", "pooled")
NULL_POOL = Design("null_pool", "no pool", "pooled")
RAW_ASYNCPG = Design("raw_asyncpg", "asyncpg by hand", "pooled", "limit")
RAW_PSYCOPG = Design("raw_psycopg", "psycopg by hand", "pooled", "limit")
NO_DATABASE = Design("no_database", "FastAPI alone", "pooled", "limit")

PEERS = [TEMPLATE, SYNC_PING, SQLMODEL, LARGE_POOL, SESSION_MANAGER, TUNED]
LIMITS = [RAW_ASYNCPG, RAW_PSYCOPG]
DESIGNS = [OURS, *PEERS, *LIMITS]
