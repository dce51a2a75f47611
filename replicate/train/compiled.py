"""What a stack computes its steps with: lanes and functions, compiled once for all stacks of a kind in this process."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from replicate.runs.run import Run
from replicate.runs.stacks import stack_key
from replicate.train import optim, setting
from replicate.train.lanes import Lanes


@dataclass
class Functions:
    """Lanes of one shape and what they compute a step with, compiled or not."""

    kind: tuple[object, ...]
    lanes: Lanes
    losses: Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
    hits: Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
    update: Callable[..., None]


_kept: list[Functions] = []
"""At most one: what was compiled last."""


def functions_for(runs: Sequence[Run], model: nn.Module, device: str, compiled: bool, products: bool) -> Functions:
    """Lanes for `runs` with the weights of `model`, by what is kept if that fits; compiling waits for the first call.

    `products`: convolutions are computed as matrix products. What is compiled is kept; `Lanes.stop` gives the memory
    of its weights back in the meantime.
    """
    step = dataclasses.replace(stack_key(runs[0]), seed=0, epochs=1, warmup_epochs=0, eval_every_epochs=1)
    kind = (step, len(runs), optim.adamw_lanes(runs), device, compiled, products)
    if _kept and _kept[0].kind == kind:
        _kept[0].lanes.start(model)
        return _kept[0]
    if compiled:
        forget()
    lanes = Lanes(model, len(runs), setting.compute_dtype(runs[0]), products)
    if not compiled:
        return Functions(kind, lanes, lanes.losses, lanes.hits, optim.update)
    fixed = partial(torch.compile, dynamic=False)
    _kept.append(Functions(kind, lanes, fixed(lanes.losses), fixed(lanes.hits), fixed(optim.update)))
    return _kept[0]


def forget() -> None:
    """Drop what is kept."""
    if _kept:
        _kept.clear()
        torch.compiler.reset()  # else torch counts what follows as compiling one function again and again, and gives up


def can_compile() -> bool:
    """Whether torch.compile finds what it needs for a GPU: Triton, and a C compiler for its launchers."""
    compilers = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return importlib.util.find_spec("triton") is not None and any(c and shutil.which(c) for c in compilers)
