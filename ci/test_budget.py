"""Checks, without a GPU, that no step of the paper's models exceeds its budget of kernel launches and bytes moved.

pytest ci/test_budget.py        minutes per architecture; CI checks one step of one model
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
UNUSABLE = 2
"""Exit status of `lowered.py` if models cannot be compiled (lowered) on this machine."""

TORCH = "2.14"
"""The version for which the budget was written: each version of Inductor fuses kernels differently."""

BUDGET = {
    "resnet50": {"train": (333, 13.2), "evaluation": (142, 13.3), "adamw": (5, 3.32)},
    "vit_s16": {"train": (105, 2.37), "evaluation": (28, 2.5), "adamw": (4, 1.79)},
    "convnext_t": {"train": (188, 7.01), "evaluation": (55, 7.41), "adamw": (7, 3.8)},
    "mixer_s16": {"train": (78, 2.07), "evaluation": (21, 2.18), "adamw": (4, 2.15)},
    "swin_t": {"train": (264, 12.8), "evaluation": (81, 15.2), "adamw": (6, 4.61)},
}
"""Architecture → step → most launches and GB: the values when this was written plus up to 5 %, for models with few
blocks. `benchmarks/lowered.py` without `--shallow` prints those of the paper's models. An epoch's last, smaller batch
runs the same code."""


@pytest.mark.skipif(not torch.__version__.startswith(f"{TORCH}."), reason=f"the budget is torch {TORCH}'s")
@pytest.mark.parametrize(
    ("arch", "steps"),
    [
        ("mixer_s16", ("train",)),  # for CI: one step of the model that compiles fastest
        *(pytest.param(arch, tuple(steps), marks=pytest.mark.long) for arch, steps in BUDGET.items()),
    ],
)
def test_no_step_asks_for_more_than_its_budget(arch: str, steps: tuple[str, ...]) -> None:
    budget = BUDGET[arch]
    asked = [sys.executable, "lowered.py", "--json", "--shallow", "--arch", arch, "--steps", *steps]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=BENCHMARKS)
    if done.returncode == UNUSABLE:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)[arch]
    used = {
        name: (work["kernels"] + work["calls"], (work["kernel_bytes"] + work["call_bytes"]) / 1e9)
        for name, work in found.items()
    }
    over = {name: now for name, now in used.items() if any(a > b for a, b in zip(now, budget[name], strict=True))}
    assert not over, f"expected at most {budget}, got {used}"
