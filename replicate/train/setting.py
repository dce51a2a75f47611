"""Shared by all trainers: random generators for each seed and purpose, the optimiser, deterministic kernels."""

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

# cuBLAS is deterministic only with this variable. PyTorch up to 2.9 reads it only once, at the first matrix product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

EVALUATION_BATCH = 500
"""Images per forward pass of an evaluation: fixed, because rounding may depend on it."""

COMPUTE_DTYPES = {"float32": None, "bf16": torch.bfloat16}
"""Type of the forward and backward pass, by precision; None: the type of the weights, float32 or wider."""


class TrainError(Exception):
    """A run cannot be trained as its record describes; the message is one line."""


def compute_dtype(run: Run) -> torch.dtype | None:
    """The entry of `COMPUTE_DTYPES` for `run`; raises TrainError if its precision is unknown."""
    if run.precision not in COMPUTE_DTYPES:
        raise TrainError(f"precision: expected one of {', '.join(COMPUTE_DTYPES)}; got {run.precision!r}")
    return COMPUTE_DTYPES[run.precision]


def passes(run: Run, device: str) -> torch.autocast:
    """A reusable context in which forward passes compute in the precision of `run`."""
    dtype = compute_dtype(run)
    return torch.autocast(torch.device(device).type, dtype, dtype is not None)


def optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of `run`, with one group for all parameters: the paper's script decays biases and norms too."""
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
    """A separate generator for each (seed, purpose `what`, epoch), so that no draw depends on the draws before it."""
    digest = hashlib.sha256(f"{seed}/{what}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def reproducible(device: str) -> Iterator[None]:
    """A context with deterministic kernels: a CPU uses one thread and no denormals, a GPU is the current device.

    All settings are restored at the end. Denormals are flushed because strong weight decay shrinks weights and moments
    to denormals, with which a CPU computes many times more slowly.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic  # a module with a property, which type checkers do not see
    fill = settings.fill_uninitialized_memory
    coarse = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if device == "cpu":
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
    else:
        # With TF32, float32 convolutions round their inputs to 10 bits, and so do matrix products if the variable
        # TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is set, as it is in container images made for GPUs.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # filling costs time, and nothing here reads uninitialised memory
    # Streams, graph captures and compiled kernels use the current device by default.
    current: AbstractContextManager[Any] = nullcontext() if device == "cpu" else torch.cuda.device(device)
    try:
        with current, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\._(inductor|dynamo)")
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = coarse
        torch.use_deterministic_algorithms(deterministic)
        settings.fill_uninitialized_memory = fill
