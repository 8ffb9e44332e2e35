"""SQLAlchemy's pools behind one limiter: together they keep no more connections than it has places.

Pools of one process share the limiter (the sync engine's and the async one's), so that a process whose
routes are partly sync and partly async has one pool's worth of connections.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import AsyncAdaptedQueuePool, Engine, NullPool, Pool, QueuePool, exc
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.pool.base import _AdhocProxiedConnection
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from ..errors import PoolExhaustedError, SecondConnectionError
from . import ends, second_session
from .claims import Claim, claim, claim_async, claim_now
from .limiter import Limiter
from .place import Place

_CLAIM = "claim"
# To hand out a connection that is alive; SQLAlchemy's own number.
_ATTEMPTS = 2


class PoolTimeoutError(PoolExhaustedError, exc.TimeoutError):
    """The package's error, which is SQLAlchemy's too."""


class _Limited(Pool):
    """A pool whose connections each need a place; without a limiter, a pool as it ever was."""

    limiter: Limiter | None = None
    waits_in_tasks = False

    def __init_subclass__(cls) -> None:
        # SQLAlchemy names a pool's logger by it: what these log is to be switched on as SQLAlchemy's is.
        cls.__module__ = QueuePool.__module__
        super().__init_subclass__()

    _disposed = False

    def behind(self, limiter: Limiter, *, waits_in_tasks: bool) -> None:
        """Share the places of `limiter` from now on; the pools of async engines wait in tasks."""
        self.limiter, self.waits_in_tasks = limiter, waits_in_tasks
        limiter.pools.add(self)

    def recreate(self) -> Any:
        new: Any = super().recreate()
        if self.limiter:
            new.behind(self.limiter, waits_in_tasks=self.waits_in_tasks)
        return new

    def dispose(self) -> None:
        self._disposed = True
        if self.limiter:
            self.limiter.pools.discard(self)
        super().dispose()

    def take(self) -> Any:
        """The record of a connection for one query, which its `checkin` gives back.

        `connect` does the same, and puts a proxy around it, which costs as much as the query.
        """
        record: Any = self._do_get()
        try:
            self._connect_alive(record)
        except BaseException as error:
            record._checkin_failed(error, _fairy_was_created=False)  # noqa: SLF001  (it has no other name)
            raise
        return record

    def _connect_alive(self, record: Any) -> None:
        for _ in range(_ATTEMPTS):
            proxy = _AdhocProxiedConnection(record.get_connection(), record)
            try:
                self.dispatch.checkout(proxy.dbapi_connection, record, proxy)
            except exc.DisconnectionError as error:
                record.invalidate(error)
                if error.invalidate_pool:
                    self._invalidate(proxy, error, _checkin=False)
            else:
                return
        raise exc.InvalidRequestError("This connection is closed")

    def _do_get(self) -> ConnectionPoolEntry:
        if self.limiter is None:
            return super()._do_get()
        try:
            claimed = self._claim(self.limiter)
        except PoolExhaustedError as error:
            raise PoolTimeoutError(str(error)) from None
        try:
            self._make_room(self.limiter)
            record = super()._do_get()
        except BaseException:
            claimed.release()
            raise
        _info(record)[_CLAIM] = claimed
        if isinstance(claimed, Place):
            claimed.record = record
        return record

    def _claim(self, limiter: Limiter) -> Claim:
        try:
            return self._claim_once(limiter)
        except SecondConnectionError as error:
            # Outside a greenlet the other session's end could not be awaited.
            apart = self.waits_in_tasks and not in_greenlet()
            if apart or not isinstance(error.place, Place) or not second_session.end_unnoticed(error.place):
                raise
        return self._claim_once(limiter)

    def _claim_once(self, limiter: Limiter) -> Claim:
        # Outside a greenlet (a lazy relation in async code) no connection could be given back.
        waits = self.waits_in_tasks and not in_greenlet()
        claimed = None if waits else claim_now(limiter)
        if claimed:
            return claimed
        return await_only(claim_async(limiter)) if self.waits_in_tasks else claim(limiter)

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        claimed: Claim | None = _info(record).pop(_CLAIM, None)
        try:
            super()._do_return_conn(record)
        finally:
            if claimed:
                claimed.release()

    def _make_room(self, limiter: Limiter) -> None:
        """Close an idle connection of another pool where one more would be one too many."""

    def _is_full_with(self, limiter: Limiter) -> bool:
        queues = [pool for pool in limiter.pools if isinstance(pool, QueuePool)]
        return sum(queue.size() + queue.overflow() for queue in queues) >= limiter.capacity


class _LimitedQueue(_Limited, QueuePool):
    @property
    def most_overflow(self) -> int:
        """The number of connections beyond the pool's size; negative without a bound."""
        return self._max_overflow

    def _make_room(self, limiter: Limiter) -> None:
        if self.checkedin() or not self._is_full_with(limiter):
            return
        others = (pool for pool in limiter.pools if pool is not self)
        any(isinstance(other, _LimitedQueue) and other.close_idle() for other in others)

    def close_idle(self) -> bool:
        """Close one idle connection, from whichever thread; False if there is none."""
        try:
            record = self._pool.get(block=False)
        except Exception:  # noqa: BLE001  (the queue's own Empty)
            return False
        driver: Any = record.driver_connection
        if driver is not None:
            # Nothing waits for it: the server is told, and the socket closed.
            driver.pgconn.finish()
        self._dec_overflow()
        return True

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        driver: Any = record.driver_connection
        if self._disposed and driver is not None:
            # It was in use when the pool was closed, and nothing would close it later.
            record.close()
        elif driver is not None and not driver.is_idle:
            # SQLAlchemy takes a transaction whose COMMIT was refused for ended. Validation replaces it.
            driver.pgconn.finish()
        super()._do_return_conn(record)


class LimitedQueuePool(_LimitedQueue):
    """For sync engines."""


class LimitedAsyncQueuePool(_LimitedQueue, AsyncAdaptedQueuePool):
    """For async engines."""


class LimitedNullPool(_Limited, NullPool):
    """For engines that keep no connection."""


def limit(engine: Engine) -> None:
    """Put the engine's pool behind a limiter of its own, by its size and overflow if it has any."""
    pool: Any = engine.pool
    if isinstance(pool, _LimitedQueue) and pool.size() and pool.most_overflow >= 0:
        own = Limiter(pool.size() + pool.most_overflow, pool.timeout())
        pool.behind(own, waits_in_tasks=engine.dialect.is_async)
        second_session.watch(engine)
        ends.watch(engine)


def _info(record: Any) -> dict[str, Any]:
    info: dict[str, Any] = record.record_info
    return info
