"""A budget without a GPU: what steps ask of one that is not there, in launches and bytes, and how that is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def printed(*command: str) -> Any:
    """The JSON that a process of its own prints; skips where nothing can be lowered."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=BENCHMARKS)
    if done.returncode == 2:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


COUNTED = """
import json, sys, torch
from dataclasses import asdict
from imagined_gpu import Lowering, NotHere, imagine

sys.path.insert(0, "..")
from replicate.train import optim
from replicate.train.lanes import side_by_side

try:
    imagine()
except NotHere as why:
    sys.stderr.write(str(why))
    sys.exit(2)

def tensor(*shape, kind=torch.float32):
    return torch.empty(shape, dtype=kind, device="meta")

def update(shapes, optimizer):
    weights = [side_by_side(16, tensor(*shape)) for shape in shapes]
    rounded = [side_by_side(16, tensor(*shape, kind=torch.bfloat16)) if len(shape) > 1 else None for shape in shapes]
    gradients = [torch.empty_like(w if copy is None else copy) for w, copy in zip(weights, rounded)]
    return Lowering(optim.update, weights, optim.zeros(optimizer, weights), rounded, gradients, tensor(3, 16))

weight, x, slices = tensor(256, 64).requires_grad_(), tensor(512, 256), tensor(512, 3 * 256)
passes = Lowering(lambda weight, x: (x @ weight).relu().sum(), weight, x)
shapes = [(384, 384), (1536, 384), (384, 64, 3, 3), (384,), (1536,)]
print(json.dumps({name: asdict(work) for name, work in {
    "passes": passes.compiled(),
    "uncompiled": passes.uncompiled(),
    "slice": Lowering(lambda x: x[:, :256].exp() + 1, slices).compiled(),
    "product of a slice": Lowering(lambda x, w: x[:, :256] @ w, slices, tensor(256, 64)).compiled(),
    "adamw": update(shapes, "adamw").compiled(),
    "sgd": update(shapes, "sgd").compiled(),
}.items()}))
"""


@pytest.mark.slow
@pytest.mark.long
def test_what_is_counted() -> None:
    """Against closed forms: each kernel's inputs and outputs once, of views what they show; 28 bytes a parameter."""
    found = printed("-c", COUNTED)
    x, weight, out = 512 * 256, 256 * 64, 512 * 64
    product = 4 * (x + weight + out)
    assert found["passes"]["calls"] == 2, "forward, and the weight's gradient"
    assert (found["passes"]["flops"], found["passes"]["call_bytes"]) == (2 * 2 * 512 * 256 * 64, 2 * product)
    assert found["uncompiled"]["call_bytes"] == 2 * product
    assert found["uncompiled"]["kernels"] == 3, "relu, sum, the gradient of relu"
    assert found["uncompiled"]["kernel_bytes"] == 4 * (5 * out + 2), "of an expanded number only the number"
    assert (found["slice"]["kernels"], found["slice"]["kernel_bytes"]) == (1, 2 * 4 * x)
    assert found["product of a slice"]["call_bytes"] == product
    parameters = 16 * (384 * 384 + 1536 * 384 + 384 * 64 * 9)
    exact = 16 * (384 + 1536)
    assert found["adamw"]["kernels"] == 2
    assert found["adamw"]["kernel_bytes"] == pytest.approx(28 * (parameters + exact), rel=1e-4)
    assert found["sgd"]["kernel_bytes"] == pytest.approx(20 * (parameters + exact), rel=1e-4)


@pytest.mark.slow
@pytest.mark.long
def test_where_nothing_can_be_lowered_it_says_so_in_one_line() -> None:
    without = "import runpy, sys; sys.modules['triton'] = None; script, *sys.argv[1:] = sys.argv[1:]; "
    without += "runpy.run_path(script, run_name='__main__')"
    asked = [sys.executable, "-c", without, str(BENCHMARKS / "lowered.py"), "--json"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=BENCHMARKS)
    assert (done.returncode, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]  # above it, what torch has to say
    assert line.startswith(f"torch {torch.__version__} cannot lower graphs without a GPU: ") and "triton" in line
