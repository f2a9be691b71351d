"""Rewrite the services while they are imported, so that every awaited call in them can be made to fail.

`await f(x)` becomes `await faults.at(SITE, f(x))`; the context managers of `async with` and the iterators of `async for`
are wrapped alike. The call sites are therefore found, not listed. Import this before any module of the product.
"""

from __future__ import annotations

import ast
import builtins
import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from tests.fuzz import faults

# Reconcilers, handlers and loops, and what these share. Jobs run in processes of their own, drivers behind their ports. What
# clients of the gateway ask for is tried by its own tests: here rituals are begun by intents.
INSTRUMENTED = ("services.", "shared.jobs.", "shared.messaging.", "shared.ritual.", "shared.runtime.")
LEFT_OUT = (
    "services.forge.trainer",
    "services.verifier.evaluator",
    "services.harvester.embedding.child",
    "services.gateway.files",
    "services.gateway.jobs",
    "services.gateway.keys",
)
HOOK = "_fault_hook"
SHOWN = 60  # characters of a call in the name of its site


class _Rewriter(ast.NodeTransformer):
    def __init__(self, module: str) -> None:
        self._module = module
        self._function = ""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        outer, self._function = self._function, node.name
        self.generic_visit(node)
        self._function = outer
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        site = self._site(node.value)
        self.generic_visit(node)
        node.value = self._wrapped("at", site, node.value)
        return node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        for item in node.items:
            site = self._site(item.context_expr)
            item.context_expr = self._wrapped("entering", site, self.visit(item.context_expr))
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        site = self._site(node.iter)
        self.generic_visit(node)
        node.iter = self._wrapped("each", site, node.iter)
        return node

    def _site(self, call: ast.expr) -> str:
        text = ast.unparse(call).replace("\n", " ")[:SHOWN]
        return faults.declare(f"{self._module}:{call.lineno} {self._function}: {text}")

    def _wrapped(self, function: str, site: str, value: ast.expr) -> ast.expr:
        hook = ast.Attribute(ast.Name(HOOK, ast.Load()), function, ast.Load())
        return ast.copy_location(ast.Call(hook, [ast.Constant(site), value], []), value)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = _Rewriter(fullname).visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(INSTRUMENTED) or name.startswith(LEFT_OUT):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


def install() -> None:
    """Rewrite what is imported from now on. Raises RuntimeError where it comes too late."""
    loaded: Any = sorted(name for name in sys.modules if name.startswith(INSTRUMENTED))
    if loaded:
        raise RuntimeError(f"imported before it could be rewritten: {', '.join(loaded)}")
    setattr(builtins, HOOK, faults)
    sys.meta_path.insert(0, _Finder())
