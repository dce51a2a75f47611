"""What every trainer shares: keyed draws, the optimiser, deterministic kernels."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from replicate.paper.protocol import ADAMW_BETAS, ADAMW_EPS, SGD_MOMENTUM
from replicate.runs.run import Run

DETERMINISTIC_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""A variable without which cuBLAS refuses to be deterministic."""
os.environ.setdefault(*DETERMINISTIC_CUBLAS)  # here as well: torch up to 2.9 reads it once, at the first product

EVALUATION_BATCH = 500
"""Images per forward pass of an evaluation: fixed, because rounding may depend on it."""


COMPUTE_DTYPES = {"float32": None, "bf16": torch.bfloat16}
"""Type of the forward and backward pass, by precision; None: that of the weights, which is never below float32."""


class TrainError(Exception):
    """A run that cannot be trained as recorded; the message is one line."""


def compute_dtype(run: Run) -> torch.dtype | None:
    """The type in which the passes of `run` compute; None: that of the weights."""
    if run.precision not in COMPUTE_DTYPES:
        raise TrainError(f"precision: expected one of {', '.join(COMPUTE_DTYPES)}; got {run.precision!r}")
    return COMPUTE_DTYPES[run.precision]


def passes(run: Run, device: str) -> torch.autocast:
    """A context for the forward passes of `run`, in which they compute in its precision; may be entered again."""
    dtype = compute_dtype(run)
    return torch.autocast(torch.device(device).type, dtype, dtype is not None)


def optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """One group for all parameters: the paper's script decays biases and norms like any other weight."""
    if run.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(), run.lr, betas=ADAMW_BETAS, eps=ADAMW_EPS, weight_decay=run.weight_decay, fused=True
        )
    if run.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), run.lr, momentum=SGD_MOMENTUM, weight_decay=run.weight_decay, fused=True
        )
    raise TrainError(f"optimizer: expected adamw or sgd, got {run.optimizer!r}")


def generator(seed: int, what: str, epoch: int) -> torch.Generator:
    """A generator of its own for each (seed, use, epoch): no draw depends on how many came before it."""
    digest = hashlib.sha256(f"{seed}/{what}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def reproducible(device: str) -> Iterator[None]:
    """Deterministic kernels, one thread on the CPU, denormals as zero, a GPU as the current one; put back at the end.

    Denormals: strong decay drives weights and moments through them, where a CPU is many times slower.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic  # a module with a property, which type checkers do not see
    fill = settings.fill_uninitialized_memory
    coarse = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if device == "cpu":
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
    else:
        # Else convolutions of float32 round to 10 bits, and products too where TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is set,
        # as in images made for GPUs.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        os.environ.setdefault(*DETERMINISTIC_CUBLAS)
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # a safeguard that costs time; nothing here reads it
    # Streams, captures and compiled kernels are by default those of the current device.
    current: AbstractContextManager[Any] = nullcontext() if device == "cpu" else torch.cuda.device(device)
    try:
        with current, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\._(inductor|dynamo)")  # the compiler on its own choices
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = coarse
        torch.use_deterministic_algorithms(deterministic)
        settings.fill_uninitialized_memory = fill
