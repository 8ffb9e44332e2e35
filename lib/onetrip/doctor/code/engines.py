"""Finders of mistakes with engines, connections and what is sent over them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .module import Module, constant, keyword, text_of
from .project import Project

_CREATE = ("create_engine", "create_async_engine")
_CACHES = {"cache", "lru_cache", "cached_property", "made_once"}
# As many as one instance may hold for a hundred of them to fit into a hundred connections, and some to spare.
_MOST_CONNECTIONS = 5
_DEFAULT_SIZE, _DEFAULT_OVERFLOW = 5, 10
_CREDENTIALS = re.compile(
    r"\bpostgres(?:ql)?(?:\+\w+)?://[^:/@\s{}$<]+:(?P<password>[^@/\s{}$<*]+)@(?P<host>[^:/\s?{}$<]+)"
)
_PLACEHOLDERS = re.compile(r"(?i)^(pass(word)?|pw|p|secret|postgres|changeme|change-me|example|xxx+|\.+)$")
_LOCAL = re.compile(r"(?i)^(localhost|127\.0\.0\.1|::1|db|postgres|host|database|example.*|.*\.example)$")
_SECRET_NAME = re.compile(
    r"(?i)^(\w+_)?(secret(_key)?|jwt_key|signing_key|api_key|db_password|database_password)$"
)
_URL_NAME = re.compile(r"(?i)^(\w*_)?(database_?ur[li]|db_?ur[li]|dsn|postgres_url|conninfo)$")
_DIRECT = re.compile(r"(?i)unpooled|non_pooling|\bdirect\b|\bdirect_?(url|engine|database|host|connection)")
_MIGRATIONS = re.compile(r"(^|[/\\])(migrations|alembic)[/\\]")
_SESSION_SET = re.compile(
    r"(?i)^\s*SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)(SESSION\s+)?\w+[\w.]*\s*(=|TO\b)|set_config\(.*,\s*false\s*\)"
)
_LISTEN = re.compile(r"(?i)^\s*(UN)?LISTEN\s+\w+")
_SESSION_LOCK = re.compile(r"(?i)\bpg_(try_)?advisory_(lock|unlock)(_shared|_all)?\s*\(")
_SENDS = (
    "text",
    "execute",
    "exec_driver_sql",
    "scalar",
    "scalars",
    "fetch",
    "fetchrow",
    "fetchval",
    "add_listener",
)


def engine_per_call(project: Project, module: Module) -> Iterator[ast.AST]:
    """Engines that are made in a function that runs more than once."""
    for call in module.calls(*_CREATE):
        function = module.function_of(call)
        if function is None or _CACHES & module.decorators(function):
            continue
        is_called_often = function.name in project.dependencies or project.is_route(function)
        if is_called_often or (_is_dropped(module, call, function) and not _runs_once(function)):
            yield call


def _runs_once(function: ast.AST) -> bool:
    disposes = any(isinstance(each, ast.Attribute) and each.attr == "dispose" for each in ast.walk(function))
    return disposes or any(isinstance(each, ast.Global | ast.Nonlocal) for each in ast.walk(function))


def _is_dropped(module: Module, call: ast.Call, function: ast.AST) -> bool:
    """Return True if the engine is used and dropped, neither returned nor kept."""
    parent = next(module.ancestors(call))
    if isinstance(parent, ast.Attribute):
        # Connected at once.
        return True
    if not isinstance(parent, ast.Assign) or not isinstance(parent.targets[0], ast.Name):
        return False
    name = parent.targets[0].id
    uses = (each for each in ast.walk(function) if isinstance(each, ast.Name) and each.id == name)
    loads = [each for each in uses if isinstance(each.ctx, ast.Load)]
    return not any(module.function_of(each) is not function or _keeps(module, each) for each in loads)


def _keeps(module: Module, name: ast.Name) -> bool:
    parent = next(module.ancestors(name))
    if isinstance(parent, ast.Attribute):
        return False
    around = [parent, *module.ancestors(parent)]
    stored = (ast.Return, ast.Yield, ast.Dict, ast.Tuple)
    if any(isinstance(each, stored) for each in around[:2]):
        return True
    assigned = next((each for each in around if isinstance(each, ast.Assign)), None)
    return assigned is not None and not isinstance(assigned.targets[0], ast.Name)


def connects_at_import(_: Project, module: Module) -> Iterator[ast.AST]:
    """Tables made, and connections opened, when a module is imported."""
    engines = _engine_names(module)
    for call in module.all_calls:
        if not isinstance(call.func, ast.Attribute) or not module.runs_at_import(call):
            continue
        opens = call.func.attr in {"connect", "begin"} and module.name(call.func.value) in engines
        if call.func.attr in {"create_all", "drop_all"} or opens:
            yield call


def _engine_names(module: Module) -> set[str]:
    made = (
        each for each in module.nodes if isinstance(each, ast.Assign) and isinstance(each.value, ast.Call)
    )
    return {
        module.name(target)
        for each in made
        if module.last_name(each.value.func) in _CREATE  # type: ignore[attr-defined]  # a call
        for target in each.targets
    }


def pool_times_instances(project: Project, module: Module) -> Iterator[ast.AST]:
    """Pools of a size for one server, made where instances multiply."""
    for call in _plain_engines(module):
        size = constant(keyword(call, "pool_size"), _DEFAULT_SIZE)
        overflow = constant(keyword(call, "max_overflow"), _DEFAULT_OVERFLOW)
        numbers = [each for each in (size, overflow) if isinstance(each, int)]
        is_given = keyword(call, "pool_size") is not None or keyword(call, "max_overflow") is not None
        if (
            project.is_serverless
            and sum(numbers) > _MOST_CONNECTIONS
            and (is_given or not _is_ours(module, call))
        ):
            yield call


def pool_without_ping(_: Project, module: Module) -> Iterator[ast.AST]:
    """Pools that hand out connections which died while they were idle."""
    for call in _plain_engines(module):
        checked = constant(keyword(call, "pool_pre_ping")) or keyword(call, "pool_recycle") is not None
        if not checked and not _is_ours(module, call):
            yield call


def _plain_engines(module: Module) -> Iterator[ast.Call]:
    """The engines on PostgreSQL with a pool of SQLAlchemy's kind."""
    for call in module.calls(*_CREATE):
        written = text_of(call)
        is_elsewhere = "://" in written and "postgres" not in written
        spreads = any(each.arg is None for each in call.keywords)
        if keyword(call, "poolclass") is None and not is_elsewhere and not spreads:
            yield call


def _is_ours(module: Module, call: ast.Call) -> bool:
    """Return True for an engine of this package, which validates and sizes by platform."""
    return "onetrip" in module.name(call.func) or "onetrip" in text_of(call)


def statement_cache(_: Project, module: Module) -> Iterator[ast.AST]:
    """Engines on asyncpg, whose cache of prepared statements a transaction pooler does not keep together."""
    turned_off = ("statement_cache_size", "prepared_statement_name_func", "NullPool")
    if any(word in module.source for word in turned_off) or "asyncpg" not in module.source:
        return
    yields_driver = (
        each for each in module.nodes if isinstance(each, ast.Constant) and "+asyncpg" in str(each.value)
    )
    direct = (
        call
        for call in module.calls("connect", "create_pool")
        if module.name(call.func).startswith("asyncpg.")
    )
    engines = module.calls("create_async_engine")
    if found := next(direct, None) or (next(engines, None) if next(yields_driver, None) else None):
        yield found


def _is_direct(module: Module) -> bool:
    """Return True if the module names a URL that is not pooled, or belongs to the migrations."""
    return bool(_DIRECT.search(module.source) or _MIGRATIONS.search(module.path))


def _sent(module: Module, pattern: re.Pattern[str]) -> Iterator[ast.AST]:
    """The statements that match, unless they are sent over a URL that is not pooled."""
    if _is_direct(module):
        return
    for call in module.calls(*_SENDS):
        if call.args and not isinstance(call.args[0], ast.Call) and pattern.search(text_of(call.args[0])):
            yield call


def session_set(_: Project, module: Module) -> Iterator[ast.AST]:
    """SET for a session, which behind a pooler is the next client's."""
    yield from _sent(module, _SESSION_SET)


def listens(_: Project, module: Module) -> Iterator[ast.AST]:
    """LISTEN, which needs a session of its own."""
    yield from _sent(module, _LISTEN)
    if not _is_direct(module):
        yield from module.calls("add_listener")


def session_lock(_: Project, module: Module) -> Iterator[ast.AST]:
    """Advisory locks that a session holds; in SQL and by SQLAlchemy's functions."""
    yield from _sent(module, _SESSION_LOCK)
    if not _is_direct(module):
        yield from module.calls("pg_advisory_lock", "pg_try_advisory_lock")


def hard_coded_secret(_: Project, module: Module) -> Iterator[ast.AST]:
    """Passwords of remote databases and signing keys in the code."""
    for node in module.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = _CREDENTIALS.search(node.value)
            if found and not _PLACEHOLDERS.match(found["password"]) and not _LOCAL.match(found["host"]):
                yield node
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            value = constant(node.value)
            is_key = isinstance(value, str) and re.fullmatch(r"(?!arn:)[\x21-\x7e]{8,}", value)
            if is_key and _SECRET_NAME.match(module.last_name(target)):
                yield node


def prints_url(_: Project, module: Module) -> Iterator[ast.AST]:
    """A URL with its password, in the log."""
    for call in module.calls("print", "debug", "info", "warning", "error", "exception", "critical", "log"):
        inner = [each for argument in call.args for each in ast.walk(argument)]
        shown = any(
            constant(keyword(each, "hide_password"), True) is False
            for each in inner
            if isinstance(each, ast.Call)
        )
        named = any(
            _URL_NAME.match(module.last_name(each)) or _URL_NAME.match(str(constant(each, "")))
            for each in inner
            if _is_whole(module, each) or _is_looked_up(module, each)
        )
        if shown or named:
            yield call


def _is_whole(module: Module, node: ast.AST) -> bool:
    """Return True if a name itself is shown, not an attribute: `database_url.host`."""
    is_name = isinstance(node, ast.Name | ast.Attribute)
    return is_name and not isinstance(next(module.ancestors(node)), ast.Attribute)


def _is_looked_up(module: Module, node: ast.AST) -> bool:
    """Return True if a text is a key: `os.environ["DATABASE_URL"]`, `os.getenv("DATABASE_URL")`."""
    parent = next(module.ancestors(node))
    return isinstance(node, ast.Constant) and (
        isinstance(parent, ast.Subscript)
        or (isinstance(parent, ast.Call) and module.last_name(parent.func) in {"getenv", "get"})
    )
