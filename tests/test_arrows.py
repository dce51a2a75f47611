"""Imports run downwards only, from folder to folder, and what judges a sweep never loads the GPU stack."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "replicate"

ORDER = (
    "text",  # texts for people
    "paper",  # the claims with their rules, as data
    "data",  # what a run sees of a data set
    "runs",  # one training as a record; which of them a claim needs
    "store",  # the runs that are there
    "train",  # the runs that are missing
    "landscape",  # accuracy over learning rate and weight decay
    "sweeps",  # the same from anybody's files
    "estimate",  # numbers with intervals
    "judging",  # verdicts; not judge, which is the function that the package offers
    "audit",  # the paper's own arithmetic
    "calibration",  # how often the rules err
    "report",  # what people read
    "notebook",
    "cli",
)
"""The data's way. A module imports from its own folder and from those above it in this list."""

USES_GPU_STACK = "train"
"""The one folder whose modules may load it, and only when asked to train."""
GPU_STACK = {"torch", "timm", "torchvision"}


@cache
def modules() -> dict[str, Path]:
    """Dotted name below `replicate` → file; packages by the name of their folder."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts and parts != ["__main__"]:
            found[".".join(parts)] = path
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


def own(name: str, at_import: bool) -> Iterator[str]:
    """The modules of this package that the module `name` imports."""
    for imported in imports(modules()[name], at_import):
        found = imported.removeprefix("replicate.")
        while found and found not in modules():  # a function or a class: the module that it stands in
            found = found.rpartition(".")[0]
        if imported.startswith("replicate.") and found and found != name:
            yield found


def test_imports_run_downwards() -> None:
    place = {name: ORDER.index(name.partition(".")[0]) for name in modules()}
    upwards = [
        f"{name} imports {target}" for name in place for target in own(name, False) if place[target] > place[name]
    ]
    assert not upwards, "expected imports from folders that come earlier on the data's way"


def test_the_order_names_what_is_there() -> None:
    assert set(ORDER) == {name.partition(".")[0] for name in modules()}


def test_no_two_modules_import_each_other() -> None:
    after = {name: set(own(name, at_import=True)) for name in modules()}
    pairs = [(one, other) for one in after for other in after[one] if one < other and one in after[other]]
    assert not pairs


def test_the_top_is_short() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert len(found) <= 17
    flat = {name for name in found if name.endswith(".py")} - {"__init__.py", "__main__.py"}
    assert flat == {"text.py", "notebook.py"}


def test_contributing_shows_the_folders_in_this_order() -> None:
    tree = re.search(r"```\nreplicate/\n(.*?)\n\S", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    assert tree is not None, "CONTRIBUTING.md: expected a tree that begins with replicate/"
    shown = re.findall(r"^  (\w+)(?:/|\.py)", tree[1], re.MULTILINE)
    assert sorted(shown) == sorted(ORDER)
    folders = [name for name in ORDER if name in shown and (PACKAGE / name).is_dir()]
    assert [name for name in shown if name in folders] == folders


def test_no_gpu_stack_at_import() -> None:
    """Through any chain of imports of this package."""
    loads = {
        name: f"{name} loads {found[0]}"
        for name, path in modules().items()
        if (found := [i for i in imports(path, at_import=True) if i.split(".")[0] in GPU_STACK])
    }
    pending = list(loads)
    while pending:
        loaded = pending.pop()
        for name in modules():
            if name not in loads and loaded in own(name, at_import=True):
                loads[name] = f"{name} imports {loaded}"
                pending.append(name)
    assert not [chain for name, chain in loads.items() if name.partition(".")[0] != USES_GPU_STACK]


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
    assert "replicate.judging.quantities" in loaded
    tops = {name.split(".")[0] for name in loaded}
    assert not tops & {*GPU_STACK, "sklearn", "filelock"}
