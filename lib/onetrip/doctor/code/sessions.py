"""Finders of mistakes with sessions: where they end, who shares them, what happens inside."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .module import Block, Function, Module, constant, keyword, line
from .project import Project

_CALLS_OUT = ("requests.", "httpx.", "httpx2.", "urllib.request.urlopen", "aiohttp.", "urllib3.")
_REQUESTS = {"get", "post", "put", "patch", "delete", "head", "request", "urlopen", "send"}
_ENDS = {"commit", "rollback", "close"}
_USES = {"execute", "scalar", "scalars", "get", "query", "exec", "flush", "refresh", "merge", "connection"}
_WRITES = {"flush", "commit", "execute", "exec", "scalar", "scalars"}
_CAUGHT = {
    "Exception",
    "BaseException",
    "IntegrityError",
    "SQLAlchemyError",
    "DBAPIError",
    "DatabaseError",
    "",
}
_SESSION_NAMES = {"db", "session", "db_session", "async_session"}


def commits_after_response(project: Project, module: Module) -> Iterator[ast.AST]:
    """Dependencies that commit when the client has its 2xx already."""
    for function in module.functions:
        if function.name not in project.late_dependencies:
            continue
        yields = [each for each in module.within(function) if isinstance(each, ast.Yield)]
        for found in yields:
            if block := next((each for each in module.blocks_around(found) if _commits_at_end(each)), None):
                yield block
                break
            commits = (each for each in module.within(function) if _is_call_of(each, {"commit"}))
            if commit := next((each for each in commits if line(each) > line(found)), None):
                yield commit
                break


def _commits_at_end(block: Block) -> bool:
    opened = [item.context_expr for item in block.items]
    return any(_is_call_of(each, {"begin", "transaction", "async_transaction"}) for each in opened)


def _is_call_of(node: ast.AST, names: set[str]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return getattr(called, "attr", getattr(called, "id", None)) in names


def sync_in_async(project: Project, module: Module) -> Iterator[ast.AST]:
    """Sync sessions in coroutines: every other request waits for each of their statements."""
    for function in module.functions:
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        given = project.session_parameters(module, function)
        if "sync" in given.values() and project.is_route(function):
            yield function
        for node in module.within(function):
            opened = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
            if any(_opens(project, module, each) for each in opened):
                yield node


def _opens(project: Project, module: Module, node: ast.expr) -> bool:
    """Return True if a block begins a session, or a connection of an engine."""
    if project.session_kind(module, node):
        return isinstance(node, ast.Call)
    return _is_call_of(node, {"connect", "begin"}) and "engine" in module.name(node)


def background_session(project: Project, module: Module) -> Iterator[ast.AST]:
    """Background tasks that are given the request's session, which has ended by then."""
    for call in module.calls("add_task", "BackgroundTask", "create_task", "ensure_future"):
        function = module.function_of(call)
        given = project.session_parameters(module, function) if function else {}
        names = _names(*_arguments(call))
        if given.keys() & names:
            yield call


def streamed_session(project: Project, module: Module) -> Iterator[ast.AST]:
    """Streams that read from the request's session, which has ended by then."""
    for call in module.calls("StreamingResponse", "EventSourceResponse"):
        function = module.function_of(call)
        given = project.session_parameters(module, function) if function else {}
        names = _names(*_arguments(call))
        inner = [each for each in ast.walk(function) if isinstance(each, Function)] if function else []
        generators = [each for each in inner if each is not function and each.name in names]
        if given.keys() & (names | _names(*generators)):
            yield call


def _names(*nodes: ast.AST) -> set[str]:
    return {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name)}


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]


def expires_on_commit(_: Project, module: Module) -> Iterator[ast.AST]:
    """Async sessions whose objects are read again after each commit, where no await is possible."""
    for call in module.calls("async_sessionmaker", "sessionmaker", "AsyncSession"):
        is_async = (
            module.last_name(call.func) != "sessionmaker"
            or module.last_name(keyword(call, "class_")) == "AsyncSession"
        )
        spreads = any(each.arg is None for each in call.keywords)
        if is_async and not spreads and constant(keyword(call, "expire_on_commit"), True) is not False:
            yield call


def swallowed_error(project: Project, module: Module) -> Iterator[ast.AST]:
    """Errors of a statement that are caught, and the transaction not rolled back."""
    for node in module.nodes:
        if not isinstance(node, ast.Try) or not _writes(project, module, node):
            continue
        if any(
            _is_call_of(item.context_expr, {"begin_nested"}) for each in node.body for item in _items(each)
        ):
            continue
        for handler in node.handlers:
            inner = [each for statement in handler.body for each in ast.walk(statement)]
            is_settled = any(isinstance(each, ast.Raise) or _is_call_of(each, {"rollback"}) for each in inner)
            if _catches(module, handler) and not is_settled:
                yield handler


def _items(node: ast.AST) -> list[ast.withitem]:
    return [item for each in ast.walk(node) if isinstance(each, Block) for item in each.items]


def _writes(project: Project, module: Module, node: ast.Try) -> bool:
    function = module.function_of(node)
    given = {*_SESSION_NAMES, *(project.session_parameters(module, function) if function else ())}
    calls = [each for statement in node.body for each in ast.walk(statement) if _is_call_of(each, _WRITES)]
    # A session that begins and ends within the block is rolled back by its own end.
    opened = [item for statement in node.body for item in _items(statement)]
    begins = any(_opens(project, module, item.context_expr) for item in opened)
    return not begins and any(
        isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and module.last_name(each.func.value) in given
        for each in calls
    )


def _catches(module: Module, handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(module.last_name(each) in _CAUGHT for each in kinds)


def calls_out(project: Project, module: Module) -> Iterator[ast.AST]:
    """Requests to others while a transaction, its locks and its connection wait for them."""
    for call in module.all_calls:
        if not (module.name(call.func).startswith(_CALLS_OUT) or _is_client_call(module, call)):
            continue
        if _is_method_of_request(call) and (
            _is_in_block(project, module, call) or _follows_use(project, module, call)
        ):
            yield call


def _is_method_of_request(call: ast.Call) -> bool:
    return _is_call_of(call, _REQUESTS)


def _is_client_call(module: Module, call: ast.Call) -> bool:
    """Return True for a method of a client that a block around it opened."""
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return False
    named = call.func.value.id
    items = (item for block in module.blocks_around(call) for item in block.items)
    return any(
        isinstance(item.optional_vars, ast.Name)
        and item.optional_vars.id == named
        and module.name(item.context_expr).startswith(_CALLS_OUT)
        for item in items
    )


def _is_in_block(project: Project, module: Module, call: ast.Call) -> bool:
    items = (item for block in module.blocks_around(call) for item in block.items)
    return any(_opens(project, module, item.context_expr) for item in items)


def _follows_use(project: Project, module: Module, call: ast.Call) -> bool:
    """Return True if the function's session was used before, and its transaction is still open."""
    function = module.function_of(call)
    if function is None:
        return False
    given = project.session_parameters(module, function)
    is_open = False
    uses = [
        each
        for each in module.within(function)
        if _is_call_of(each, _USES | _ENDS) and line(each) < line(call)
    ]
    for use in sorted(uses, key=line):
        if (
            isinstance(use, ast.Call)
            and isinstance(use.func, ast.Attribute)
            and module.name(use.func.value) in given
        ):
            is_open = use.func.attr not in _ENDS
    return is_open


def middleware_session(project: Project, module: Module) -> Iterator[ast.AST]:
    """Middleware that holds a session for as long as the whole request takes."""
    for call in module.calls("call_next"):
        for block in module.blocks_around(call):
            if any(_opens(project, module, item.context_expr) for item in block.items):
                yield block
        function = module.function_of(call)
        for node in module.within(function) if function else ():
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                is_opened = isinstance(node.value, ast.Call) and project.session_kind(module, node.value)
                yield from [node] if is_opened else []


def shared_session(project: Project, module: Module) -> Iterator[ast.AST]:
    """One session of a module for all requests."""
    for node in module.nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and module.runs_at_import(node):
            made = module.last_name(node.value.func)
            is_maker = made in {"sessionmaker", "async_sessionmaker", "scoped_session"}
            if project.session_kind(module, node.value) and not is_maker:
                yield node


def gathered_session(project: Project, module: Module) -> Iterator[ast.AST]:
    """One session in several tasks at once."""
    for call in module.calls("gather"):
        holders = [
            each.func.value.id
            for argument in call.args
            for each in ast.walk(argument)
            if isinstance(each, ast.Call)
            and isinstance(each.func, ast.Attribute)
            and isinstance(each.func.value, ast.Name)
        ]
        function = module.function_of(call)
        known = {*_SESSION_NAMES, *(project.session_parameters(module, function) if function else ())}
        used = [name for name in holders if name in known]
        comprehends = any(isinstance(each, ast.GeneratorExp | ast.ListComp) for each in ast.walk(call))
        if len(used) > 1 or (used and comprehends):
            yield call


def disposing_lifespan(project: Project, module: Module) -> Iterator[ast.AST]:
    """A lifespan that disposes the engine, run by Mangum at each invocation."""
    if not project.lifespan_runs_each_time:
        return
    for function in module.functions:
        is_lifespan = "lifespan" in function.name or any(
            isinstance(each, ast.Call) and "shutdown" in ast.unparse(each) for each in function.decorator_list
        )
        if is_lifespan:
            yield from (each for each in module.within(function) if _is_call_of(each, {"dispose", "aclose"}))
