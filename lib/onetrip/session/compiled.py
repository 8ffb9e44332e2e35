"""Statements compiled once: in reading sessions they are sent without SQLAlchemy's work for each execution.

The statement is SQLAlchemy's, and so are its types and its instances. In other sessions, and where a
statement or an event listener needs SQLAlchemy's own execution, it has that; the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from inspect import Parameter, signature
from typing import Any, Generic, ParamSpec, TypeVar, TypeVarTuple, overload

from sqlalchemy import Row, Select, bindparam
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from ..connection.dialect import SingleFlightAsyncDialect, SingleFlightDialect
from ..pool.database import Database
from .asking import asked, engine_of
from .loading import Loader, Values, loader_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# What a query is asked of.
Asked = Session | Database
AsyncAsked = AsyncSession | Database
_DIALECTS = (SingleFlightDialect, SingleFlightAsyncDialect)


class CompiledQuery(Generic[P, R]):
    """A query with typed parameters: `query.all(session, 7)`, or `await query.async_all(session, 7)`.

    Asked of a `Database`, as `query.all(database, 7)`, it needs no session: one round trip on a connection
    for it alone or a shared one, and instances that belong to no session.
    """

    def __init__(self, function: Callable[P, Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        parameters = signature(function).parameters.values()
        self._names = tuple(each.name for each in parameters)
        self._defaults = {
            each.name: each.default for each in parameters if each.default is not Parameter.empty
        }
        # For each dialect: the one of sync engines, and that of async ones.
        self._loaders: dict[type, Loader | None] = {}

    @cached_property
    def statement(self) -> Select[Any]:
        """SQLAlchemy's statement, with a bound parameter for each of the function's."""
        make: Callable[..., Select[Any]] = self._function
        return make(**{name: bindparam(name) for name in self._names})

    def all(self, of: Asked, /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """All results."""
        return self._fetched(of, self._values(args, kwargs))

    def first(self, of: Asked, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The first result, or None."""
        return next(iter(self._fetched(of, self._values(args, kwargs))), None)

    def one(self, of: Asked, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The only result; raise SQLAlchemy's `NoResultFound` or `MultipleResultsFound`."""
        return _only(self._fetched(of, self._values(args, kwargs)))

    async def async_all(self, of: AsyncAsked, /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """`all` for async code."""
        return await self._async_fetched(of, self._values(args, kwargs))

    async def async_first(self, of: AsyncAsked, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """`first` for async code."""
        return next(iter(await self._async_fetched(of, self._values(args, kwargs))), None)

    async def async_one(self, of: AsyncAsked, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`one` for async code."""
        return _only(await self._async_fetched(of, self._values(args, kwargs)))

    def _fetched(self, of: Session | Database, values: Values) -> list[R]:
        if isinstance(of, Database):
            from .sessionless import fetched  # noqa: PLC0415  (it needs sessions, which need this module)

            return fetched(of, self, values)
        return self.fetched(of, values)

    async def _async_fetched(self, of: AsyncSession | Database, values: Values) -> list[R]:
        if isinstance(of, Database):
            from .sessionless import async_fetched  # noqa: PLC0415  (the same)

            return await async_fetched(of, self, values)
        return await of.run_sync(self.fetched, values)

    def _values(self, args: Sequence[object], kwargs: dict[str, Any]) -> Values:
        if len(args) == len(self._names) and not kwargs:
            return dict(zip(self._names, args, strict=True))
        values = {**self._defaults, **dict(zip(self._names, args, strict=False)), **kwargs}
        if len(values) != len(self._names) or len(args) + len(kwargs) > len(values):
            # Raises what a call of the function would.
            signature(self._function).bind(*args, **kwargs)
        return values

    def loaded(self, session: Session, values: Values) -> list[R] | None:
        """The results as the loader makes them; None if SQLAlchemy is to execute the statement."""
        engine = engine_of(session)
        loader = self.loader(engine.dialect) if engine else None
        return asked(session, engine, loader, values) if loader else None

    def fetched(self, session: Session, values: Values) -> list[R]:
        """The results, made by the loader or by SQLAlchemy."""
        loaded = self.loaded(session, values)
        if loaded is not None:
            return loaded
        found: Any = session.execute(self.statement, values)
        return list(found.scalars() if _is_scalar(self.statement) else found)

    def loader(self, dialect: Any) -> Loader | None:
        """What makes results of a connection's rows; None if the statement needs more than its rows."""
        kind = type(dialect)
        if kind not in self._loaders:
            self._loaders[kind] = (
                loader_of(self.statement, dialect) if isinstance(dialect, _DIALECTS) else None
            )
        return self._loaders[kind]


@overload
def compiled(function: Callable[P, Select[T]]) -> CompiledQuery[P, T]: ...
@overload
def compiled(function: Callable[P, Select[*Ts]]) -> CompiledQuery[P, Row[*Ts]]: ...
def compiled(function: Callable[P, Any]) -> CompiledQuery[P, Any]:
    """Make a query of a function that builds its statement, compiled when it is first asked.

    The function is called once, with bound parameters in place of its arguments, so it must not look at them.
    A statement of one column or entity gives its values or instances; one of several gives rows.
    """
    return CompiledQuery(function)


def _is_scalar(statement: Select[Any]) -> bool:
    return len(statement.column_descriptions) == 1


def _only(results: list[R]) -> R:
    if not results:
        raise NoResultFound("No row was found when one was required")
    if len(results) > 1:
        raise MultipleResultsFound("Multiple rows were found when exactly one was required")
    return results[0]
