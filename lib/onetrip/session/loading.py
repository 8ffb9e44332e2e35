"""Rows of a compiled statement as SQLAlchemy gives them: values by SQL types, instances by mappers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from psycopg.abc import Transformer
from psycopg.adapt import PyFormat
from psycopg.pq.abc import PGresult
from sqlalchemy import Row, Select, inspect
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty, Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.util import AliasedInsp

from ..connection.protocol import Message

Values = dict[str, Any]
Rows = Sequence[tuple[Any, ...]]
# Instances belong to the session, if there is one.
Make = Callable[[Session | None, Rows], list[Any]]
_PLACES = re.compile(r"%(?:\(([^)]+)\)s|%)")
# Relations that are left alone until they are asked for.
_LAZY = frozenset({"select", True, "raise", "raise_on_sql", "write_only", "dynamic"})


class Loader:
    """The text of one statement, the parameters to send with it, and the way from its rows to its results."""

    def __init__(self, compiled: Any, dialect: Any, make: Make) -> None:
        self.text: str = compiled.string
        self._make = make
        self._dialect = dialect
        self._types = [column.type for column in compiled._result_columns]  # noqa: SLF001
        self._processors: list[Callable[[Any], Any] | None] | None = None
        self._numbered, names = _numbered(compiled.string)
        fixed, processes = compiled.params, compiled._bind_processors  # noqa: SLF001
        keys = {name: parameter.key for parameter, name in compiled.bind_names.items()}
        # Of each parameter that is sent: its name in the query, its value unless it is given, its type's way.
        self._parameters = [(keys[name], fixed.get(name), processes.get(name)) for name in names]
        self._formats = [PyFormat.AUTO] * len(names)

    def bound(self, values: Values) -> list[Any]:
        """The values to send, for those of the query."""
        bound = []
        for key, fixed, process in self._parameters:
            value = values.get(key, fixed)
            bound.append(process(value) if process else value)
        return bound

    def message(self, bound: list[Any], adapter: Transformer) -> Message:
        """The statement with its values, as the connection of `adapter` sends them."""
        dumped = adapter.dump_sequence(bound, self._formats)
        return Message(self._numbered.encode(adapter.encoding), dumped, adapter.types, adapter.formats)

    def results(self, session: Session | None, answer: PGresult, rows: Rows) -> list[Any]:
        """The results for the driver's rows."""
        if self._processors is None:
            codes = [answer.ftype(column) for column in range(answer.nfields)]
            found = zip(self._types, codes, strict=True)
            self._processors = [kind._cached_result_processor(self._dialect, code) for kind, code in found]  # noqa: SLF001
        if any(self._processors):
            rows = [tuple(self._processed(row, self._processors)) for row in rows]
        return self._make(session, rows)

    def _processed(self, row: tuple[Any, ...], processors: Sequence[Any]) -> Iterator[Any]:
        for process, value in zip(processors, row, strict=True):
            yield process(value) if process else value


def _numbered(text: str) -> tuple[str, list[str]]:
    """The text with `$1` in place of `%(name)s`, and the names in the order of their numbers."""
    numbers: dict[str, str] = {}

    def replaced(found: re.Match[str]) -> str:
        return numbers.setdefault(found[1], f"${len(numbers) + 1}") if found[1] else "%"

    return _PLACES.sub(replaced, text), list(numbers)


def loader_of(statement: Select[Any], dialect: Any) -> Loader | None:
    """The loader of a statement; None for one that needs more than its rows."""
    described = statement.column_descriptions
    entities = [
        each for each in (inspect(each["expr"], raiseerr=False) for each in described) if _is_entity(each)
    ]
    if entities and (len(described) > 1 or not _is_plain(entities[0])):
        return None
    has_options = statement._with_options or statement.get_execution_options()  # noqa: SLF001
    # Only the server knows the name of a column that is written as text.
    has_text = any(each["name"] is None for each in described)
    if has_options or has_text or statement._for_update_arg is not None:  # noqa: SLF001
        return None
    compiled: Any = statement.compile(dialect=dialect)
    if _is_unfinished(compiled):
        return None
    if entities:
        return Loader(compiled, dialect, _instances(entities[0], compiled))
    is_value = len(described) == 1
    return Loader(compiled, dialect, _values if is_value else _rows([each["name"] for each in described]))


def _is_entity(described: Any) -> bool:
    return isinstance(described, Mapper | AliasedInsp)


def _is_unfinished(compiled: Any) -> bool:
    """True if lists are written out once they are known, or values are made anew each time."""
    late = compiled.post_compile_params or compiled.literal_execute_params or compiled.escaped_bind_names
    # More than one statement is not for one message.
    return (
        bool(late) or ";" in compiled.string or any(parameter.callable for parameter in compiled.bind_names)
    )


def _is_plain(mapper: Any) -> bool:
    """True if an instance is made of the columns of its row, and of nothing else."""
    if (
        not isinstance(mapper, Mapper)
        or mapper.polymorphic_on is not None
        or mapper.inherits
        or mapper.class_manager.dispatch.load
    ):
        return False
    return all(
        each.lazy in _LAZY
        if isinstance(each, RelationshipProperty)
        else isinstance(each, ColumnProperty) and len(each.columns) == 1 and not each.deferred
        for each in mapper.iterate_properties
    )


def _values(_session: Session | None, rows: Rows) -> list[Any]:
    return [row[0] for row in rows]


def _rows(names: list[str]) -> Make:
    described = SimpleResultMetaData(names)

    def make(_session: Session | None, rows: Rows) -> list[Any]:
        return [Row(described, None, described._key_to_index, row) for row in rows]  # noqa: SLF001

    return make


def _instances(mapper: Mapper[Any], compiled: Any) -> Make:
    # The column of a result column is the first of the objects by which rows are asked for it.
    columns = [each.objects[0] for each in compiled._result_columns]  # noqa: SLF001
    names = [mapper.get_property_by_column(column).key for column in columns]
    positions = [columns.index(column) for column in mapper.primary_key]
    key_of: Callable[[Any], Any] = itemgetter(*positions)
    is_single, kind, new = (
        len(positions) == 1,
        mapper.identity_key_from_primary_key((None,))[0],
        mapper.class_manager.new_instance,
    )

    def make(session: Session | None, rows: Rows) -> list[Any]:
        known: Any = session.identity_map if session else {}
        results = []
        for row in rows:
            key = (kind, (key_of(row),) if is_single else key_of(row), None)
            instance = known.get(key)
            if instance is None:
                instance = new()
                state: Any = instance_state(instance)
                state.dict.update(zip(names, row, strict=True))
                state.key = key
                if session:
                    state.session_id = session.hash_key
                    known.add(state)
                else:
                    known[key] = instance
            results.append(instance)
        return results

    return make
