"""A budget without a GPU: what steps ask of one that is not there, in bytes and launches, and how that is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

TORCH = "2.14"
"""Whose Inductor the budget was written with: each version fuses otherwise."""

BUDGET = {
    "resnet50": {"train": (0, 0.0), "last": (0, 0.0), "evaluation": (0, 0.0), "adamw": (0, 0.0)},
}
"""Architecture → step → launches and GB at most: two to five per cent more than they were when it was written. Of the
models with few blocks; `benchmarks/lowered.py` without `--shallow` says what the paper's take."""


def printed(*command: str) -> Any:
    """What `command`, a script and its arguments, prints as JSON in a process of its own; skips where it cannot."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=BENCHMARKS)
    if done.returncode == 2:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not torch.__version__.startswith(f"{TORCH}."), reason=f"the budget is torch {TORCH}'s")
@pytest.mark.parametrize("arch", BUDGET)
def test_no_step_asks_for_more_than_its_budget(arch: str) -> None:
    steps = BUDGET[arch]
    found = printed("lowered.py", "--json", "--shallow", "--arch", arch, "--steps", *steps)[arch]
    used = {
        name: (work["kernels"] + work["calls"], round((work["kernel_bytes"] + work["call_bytes"]) / 1e9, 2))
        for name, work in found.items()
    }
    over = {name: now for name, now in used.items() if any(a > b for a, b in zip(now, steps[name], strict=True))}
    assert not over, f"budget: {steps}"


COUNTED = """
import json, sys, torch
from dataclasses import asdict
from imagined_gpu import Lowering, NotHere, imagine

def tensor(*shape, dtype=torch.float32, **how):
    return torch.empty(*shape, dtype=dtype, device="meta", **how)

try:
    imagine()
except NotHere as why:
    sys.exit(f"{why}") if False else (sys.stderr.write(str(why)), sys.exit(2))
"""
