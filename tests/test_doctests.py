"""The examples in docstrings say what happens; public functions say what they take."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from replicate import notebook
from replicate.estimate.estimate import Estimate
from replicate.judging import rule, sweep_verdicts
from replicate.store import store

PACKAGE = Path(__file__).parents[1] / "replicate"
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples_and_none_loads_pytorch() -> None:
    assert len(WITH_EXAMPLES) >= 10
    assert not [name for name in WITH_EXAMPLES if name.startswith("replicate.train")]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed


def estimators() -> Iterator[Callable[..., Any]]:
    """The public functions of `replicate.estimate` that return an `Estimate`."""
    for path in sorted((PACKAGE / "estimate").glob("*.py")):
        module = importlib.import_module(f"replicate.estimate.{path.stem}")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or node.returns is None:
                continue
            if ast.unparse(node.returns) == Estimate.__name__:
                yield getattr(module, node.name)


PUBLIC = [
    *estimators(), notebook.judge, notebook.Judged.to_html, rule.decide, rule.position, sweep_verdicts.judge_sweep,
    *(method for name, method in vars(store.Store).items() if inspect.isfunction(method) and not name.startswith("_")),
    store.open_store,
]  # fmt: skip


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: f"{function.__module__}.{function.__qualname__}")
def test_every_argument_is_explained(function: Callable[..., Any]) -> None:
    """In a section `Args:`, of which ruff's D417 sees that it is whole, or by its name in a sentence."""
    text = inspect.getdoc(function) or ""
    for name in inspect.signature(function).parameters.keys() - {"self"}:
        assert re.search(rf"(?m)^ +{name}: |`{name}`", text), f"{name} is not explained: {text}"
