"""A project's files together, and the names that mean the same in all of them."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from .module import Function, Module, constant, keyword, parameters

# Tests have their own reasons, and code of others is not this project's.
_LEFT_OUT = frozenset(
    {"__pycache__", "build", "dist", "env", "node_modules", "site-packages", "test", "tests", "venv"}
)
_PLATFORM_FILES = (
    "vercel.json",
    "serverless.yml",
    "serverless.yaml",
    "template.yaml",
    "template.yml",
    "samconfig.toml",
)
_ROUTES = frozenset(
    {"get", "post", "put", "patch", "delete", "head", "options", "api_route", "route", "websocket"}
)
_SESSIONS = {
    "Session": "sync",
    "SessionDep": "sync",
    "ReadSessionDep": "sync",
    "transaction": "sync",
    "reading": "sync",
    "AsyncSession": "async",
    "AsyncSessionDep": "async",
    "AsyncReadSessionDep": "async",
    "async_transaction": "async",
    "async_reading": "async",
}


class Project:
    """All modules, and what they tell about each other's names."""

    def __init__(self, modules: Iterable[Module], *, is_serverless: bool = False) -> None:
        self.modules = list(modules)
        self._is_deployed_so = is_serverless

    @classmethod
    def read(cls, root: Path) -> tuple[Project, list[str]]:
        """The project below `root`, or of that one file, and the files that are no Python."""
        modules, unreadable = [], []
        for path in _python_files(root):
            shown = str(path.relative_to(root)) if path != root else path.name
            try:
                modules.append(Module(shown, path.read_text(encoding="utf-8")))
            except (SyntaxError, ValueError, OSError):
                unreadable.append(shown)
        marks = root.is_dir() and any((root / name).is_file() for name in _PLATFORM_FILES)
        return cls(modules, is_serverless=marks), unreadable

    @cached_property
    def is_serverless(self) -> bool:
        """Return True if it is deployed where instances multiply."""
        return self._is_deployed_so or any(any(each.calls("Mangum")) for each in self.modules)

    @cached_property
    def lifespan_runs_each_time(self) -> bool:
        """Return True if Mangum runs the application's lifespan at each invocation, its default."""
        adapters = (call for each in self.modules for call in each.calls("Mangum"))
        return any(constant(keyword(call, "lifespan"), "auto") != "off" for call in adapters)

    @cached_property
    def late_dependencies(self) -> set[str]:
        """The functions that end after the response: dependencies without `scope="function"`."""
        return {name for name, scope in self._dependencies if scope != "function"}

    @cached_property
    def dependencies(self) -> set[str]:
        """The names of functions that are dependencies."""
        return {name for name, _ in self._dependencies}

    @cached_property
    def _dependencies(self) -> list[tuple[str, object]]:
        return [
            (module.last_name(call.args[0]), constant(keyword(call, "scope")))
            for module in self.modules
            for call in module.calls("Depends", "Security")
            if call.args
        ]

    @cached_property
    def makers(self) -> dict[str, str]:
        """The kind of session, sync or async, by the name of its maker or of its annotation."""
        own = (pair for each in self._own_makers.values() for pair in each.items())
        return _SESSIONS | {name: kind for name, kind in own if kind}

    @cached_property
    def _own_makers(self) -> dict[str, dict[str, str | None]]:
        """By module and assigned name; None for what is no session, whatever others mean by the name."""
        found: dict[str, dict[str, str | None]] = {}
        for module in self.modules:
            own = found[module.path] = {}
            for node in module.nodes:
                if isinstance(node, ast.Assign | ast.AnnAssign):
                    kind = self._made_by(module, node.value)
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    names = {module.last_name(target) for target in targets}
                    own |= {name: kind or own.get(name) for name in names}
        return found

    def _kind(self, module: Module, node: ast.AST | None) -> str | None:
        name = module.last_name(node)
        own = self._own_makers[module.path]
        return own[name] if name in own else self.makers.get(name)

    def _made_by(self, module: Module, node: ast.expr | None) -> str | None:
        if isinstance(node, ast.Subscript) and module.last_name(node.value) == "Annotated":
            first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
            return _SESSIONS.get(module.last_name(first))
        if not isinstance(node, ast.Call):
            return None
        maker = module.last_name(node.func)
        if maker == "async_sessionmaker" or module.last_name(keyword(node, "class_")) == "AsyncSession":
            return "async"
        return "sync" if maker in {"sessionmaker", "scoped_session"} else None

    def session_kind(self, module: Module, node: ast.AST | None) -> str | None:
        """The kind of session that an expression opens, or that an annotation names."""
        if isinstance(node, ast.BinOp):
            return self.session_kind(module, node.left)
        if isinstance(node, ast.Subscript) and module.last_name(node.value) == "Annotated":
            return self._made_by(module, node)
        called = node.func if isinstance(node, ast.Call) else node
        if isinstance(called, ast.Attribute) and called.attr == "begin":
            # `SessionLocal.begin()`
            return self._kind(module, called.value)
        return self._kind(module, called)

    def session_parameters(self, module: Module, function: Function) -> dict[str, str]:
        """The function's parameters that are sessions, with their kind; "any" where it is not told."""
        found = {}
        for parameter, default in parameters(function):
            kind = self.session_kind(module, parameter.annotation)
            is_injected = isinstance(default, ast.Call) and module.last_name(default.func) == "Depends"
            if kind or (is_injected and parameter.annotation is None and parameter.arg in {"db", "session"}):
                found[parameter.arg] = kind or "any"
        return found

    @staticmethod
    def is_route(function: Function) -> bool:
        """Return True if the function answers requests."""
        return any(
            isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in _ROUTES
            for each in function.decorator_list
        )


def _python_files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        is_environment = "pyvenv.cfg" in files
        if is_environment:
            folders.clear()
            continue
        own = (name for name in sorted(files) if name.endswith(".py"))
        yield from (
            Path(folder) / name for name in own if not name.startswith("test_") and name != "conftest.py"
        )
