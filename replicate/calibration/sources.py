"""A hash of the source code on which a module's answers depend: the module and its imports from this package.

Docstrings and comments do not count, so rewording them keeps cached answers that took hours.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy
import scipy

PACKAGE = Path(__file__).parents[1]


def _read() -> dict[str, str]:
    """Dotted name of every module of this package → its source."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


SOURCES: Mapping[str, str] = _read()
"""Read once, at import: this process keeps running the code as imported even if the files are edited meanwhile."""


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of this package that `module` imports directly, including those imported inside a function."""
    return frozenset(_imported(SOURCES[module]))


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in SOURCES:  # a function or a class: the module that defines it
                name = name.rpartition(".")[0]
            if name:
                yield name


@cache
def meaning(source: str) -> str:
    """The syntax tree of `source`, as text, without docstrings, comments and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(statement: ast.AST) -> bool:
    """Whether the statement is a string alone: a docstring, or one below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def closure(module: str) -> list[str]:
    """Names of `module` and of its direct and indirect imports from this package; empty for a module outside of it."""
    found: set[str] = set()
    pending = [module] if module in SOURCES else []
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += imported(name)
    return sorted(found)


@cache
def code(module: str) -> str:
    """16 hexadecimal digits that depend on the source of `module` and its imports, and the NumPy and SciPy versions.

    Python versions with different syntax trees give different digits.
    """
    digest = hashlib.sha256(f"{numpy.__version__} {scipy.__version__}".encode())
    for name in closure(module):
        digest.update(f"\n{name}\n{meaning(SOURCES[name])}".encode())
    return digest.hexdigest()[:16]
