"""One file of a project, parsed and never imported, and the questions that rules ask of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property

Function = ast.FunctionDef | ast.AsyncFunctionDef
Block = ast.With | ast.AsyncWith
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Module:
    """A file's syntax tree, with every node's parent and the full names of what is imported."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.source = source
        self.tree = ast.parse(source)
        self.nodes = list(ast.walk(self.tree))
        self._parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    @cached_property
    def _imported(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                names |= {alias.asname: alias.name for alias in node.names if alias.asname}
            elif isinstance(node, ast.ImportFrom):
                names |= {
                    alias.asname or alias.name: f"{node.module or ''}.{alias.name}" for alias in node.names
                }
        return names

    def name(self, node: ast.AST | None) -> str:
        """The full dotted name of an expression: `sqlalchemy.create_engine`, whatever it was imported as."""
        if isinstance(node, ast.Name):
            return self._imported.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.name(node.value)}.{node.attr}"
        if isinstance(node, ast.Call):
            return f"{self.name(node.func)}()"
        return self.name(node.value) if isinstance(node, ast.Subscript | ast.Await) else ""

    def last_name(self, node: ast.AST | None) -> str:
        """The last part of it: `create_engine`."""
        return self.name(node).rpartition(".")[2]

    @cached_property
    def functions(self) -> list[Function]:
        """All functions and methods."""
        return [node for node in self.nodes if isinstance(node, _FUNCTIONS)]

    @cached_property
    def all_calls(self) -> list[ast.Call]:
        """All calls."""
        return [node for node in self.nodes if isinstance(node, ast.Call)]

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """The calls of functions whose last names are among `names`."""
        return (call for call in self.all_calls if self.last_name(call.func) in names)

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around `node`, the innermost first."""
        while (parent := self._parents.get(node)) is not None:
            yield parent
            node = parent

    def function_of(self, node: ast.AST) -> Function | None:
        """The innermost function around `node`; None where it runs when the module is imported."""
        return next((each for each in self.ancestors(node) if isinstance(each, _FUNCTIONS)), None)

    def runs_at_import(self, node: ast.AST) -> bool:
        """Return True if it runs at the import of the module, not only when started as a program."""
        outside = (*_FUNCTIONS, ast.Lambda)
        return not any(isinstance(each, outside) or _is_main(each) for each in self.ancestors(node))

    def blocks_around(self, node: ast.AST) -> Iterator[Block]:
        """The `with` blocks around `node` within its function."""
        for each in self.ancestors(node):
            if isinstance(each, _FUNCTIONS):
                return
            if isinstance(each, Block):
                yield each

    def within(self, function: ast.AST) -> Iterator[ast.AST]:
        """The nodes of a function's body, without those of functions inside it."""
        for child in ast.iter_child_nodes(function):
            if not isinstance(child, (*_FUNCTIONS, ast.Lambda)):
                yield child
                yield from self.within(child)

    def decorators(self, function: Function) -> set[str]:
        """The last names of the function's decorators."""
        return {
            self.last_name(each.func if isinstance(each, ast.Call) else each)
            for each in function.decorator_list
        }


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def parameters(function: Function) -> list[tuple[ast.arg, ast.expr | None]]:
    """Each parameter with its default."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
    return [
        *zip(positional, [*missing, *given.defaults], strict=True),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ]


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The value of a call's keyword."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def constant(node: ast.AST | None, default: object = None) -> object:
    """The value of a constant."""
    return node.value if isinstance(node, ast.Constant) else default


def line(node: ast.AST) -> int:
    """The line where a node begins."""
    return getattr(node, "lineno", 0)


def text_of(node: ast.AST) -> str:
    """The text that is written in an expression, of its formatted strings what is fixed."""
    inner = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return " ".join(each for each in inner if isinstance(each, str))
