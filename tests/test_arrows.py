"""Imports run downwards only, and what judges a sweep never loads the GPU stack."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "replicate"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("replicate",),
    ("atomic", "one_line", "fields", "cores"),
    ("locks",),
    ("runs", "landscape", "train.result", "budget"),
    ("paper", "datasets"),
    ("data", "families", "synthetic", "estimate", "world", "layout", "record"),
    ("scales", "models", "augment", "verdict", "fits", "recorded"),
    ("beside", "criteria", "store_locks"),
    ("store_marker", "ratios"),
    ("evaluate", "train", "store", "table", "progress_view"),
    ("sweep_columns",),
    ("engine", "collect", "progress", "sweep", "sweep_verdicts", "report"),
    ("prices",),
    ("auto", "plan", "judging", "calibration", "audit", "in_flight", "differences", "fsck"),
    ("order", "reporting", "notebook", "garbage"),
    ("cli",),
)
"""Lowest first. A module imports from its own package and from lower layers."""

WITHOUT_TORCH = (
    *(
        "runs",
        "scales",
        "landscape",
        "synthetic",
        "paper",
        "estimate",
        "verdict",
        "fits",
        "beside",
        "criteria",
        "ratios",
    ),
    *("evaluate", "store", "collect", "data", "datasets", "families"),
    *(
        "layout",
        "locks",
        "store_locks",
        "store_marker",
        "record",
        "recorded",
        "world",
        "progress",
        "progress_view",
        "in_flight",
        "garbage",
        "differences",
        "report",
        "table",
        "sweep",
        "sweep_verdicts",
        "plan",
        "prices",
        "judging",
        "reporting",
        "notebook",
        "cli",
        "audit",
        "calibration",
        "fsck",
    ),
)
GPU_STACK = {"torch", "timm", "torchvision"}


@cache
def modules() -> dict[str, Path]:
    """Dotted name below `replicate` → file; `replicate` for the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts) or "replicate"] = path
    return found


@cache
def imports(path: Path, at_import: bool) -> set[str]:
    """Names imported by the module, absolute; with `at_import`, only what importing it loads."""
    found = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: expected absolute imports, got a relative one in line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return found


def layer(name: str) -> tuple[int, str]:
    """The layer of a module and the entry of LAYERS that it falls under: the longest that fits."""
    fitting = [
        (len(entry), i, entry)
        for i, entries in enumerate(LAYERS)
        for entry in entries
        if name == entry or name.startswith(entry + ".")
    ]
    assert fitting, f"replicate.{name} has no layer; give it one in LAYERS"
    _, i, entry = max(fitting)
    return i, entry


def own(imported: str, known: dict[str, Path]) -> str | None:
    """The module of this package that `imported` names (itself, or as the place of a name); None for others'."""
    if imported.split(".")[0] != "replicate":
        return None
    name = imported.removeprefix("replicate").removeprefix(".")
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or "replicate"


@pytest.mark.parametrize("name", [n for n in modules() if n != "__main__"])
def test_imports_run_downwards(name: str) -> None:
    known = modules()
    here, package = layer(name)
    for imported in imports(known[name], at_import=False):
        target = own(imported, known)
        if target is None or target == name:
            continue
        there, other = layer(target)
        assert other == package or there < here, f"replicate.{name} imports {imported}, which stands above or beside it"


@pytest.mark.parametrize("name", [n for n in modules() if n.split(".")[0] in WITHOUT_TORCH or n == "train.result"])
def test_no_gpu_stack_at_import(name: str) -> None:
    """Through any chain of imports of this package."""
    known = modules()
    reached = {name}
    pending = [name]
    while pending:
        module = pending.pop()
        for imported in imports(known[module], at_import=True):
            assert imported.split(".")[0] not in GPU_STACK, f"replicate.{name} loads {imported} by way of {module}"
            target = own(imported, known)
            if target is not None and target not in reached:
                reached.add(target)
                pending.append(target)


def test_nothing_names_a_module_that_is_gone() -> None:
    known = {name.split(".")[0] for name in modules()} | {"audit", "calibration", "train.result"}
    named = {entry for entries in LAYERS for entry in entries} | set(WITHOUT_TORCH)
    assert named <= known


def test_judge_loads_no_gpu_stack(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    path.write_text("lr,wd,accuracy\n1e-3,0,50\n1e-3,1e-4,60\n1e-3,1e-3,55\n")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "replicate", "judge", str(path), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "replicate.evaluate" in loaded
    tops = {name.split(".")[0] for name in loaded}
    assert not tops & {*GPU_STACK, "sklearn", "filelock"}
