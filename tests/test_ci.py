"""The scripts in ci/: what they hand to Python names modules that are there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

CI = Path(__file__).parents[1] / "ci"
PYTHON = re.compile(r"<<'END'\n(.*?)\nEND\n", re.DOTALL)
PROGRAMS = [
    pytest.param(found[1], id=path.name)
    for path in sorted([*CI.iterdir(), *(CI.parent / ".ci").iterdir()])
    if path.is_file() and path.suffix == ""
    for found in PYTHON.finditer(path.read_text(encoding="utf-8"))
]


def test_there_are_such_programs() -> None:
    assert len(PROGRAMS) >= 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_a_program_imports_is_there(program: str) -> None:
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
