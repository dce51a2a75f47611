"""Functions that train several runs at once, compiled once per process for all groups of runs with the same shapes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from replicate.runs.run import Run
from replicate.runs.stacks import stack_key
from replicate.train import optim, setting
from replicate.train.accelerate import CaptureFailed
from replicate.train.contract import Stopped
from replicate.train.lanes import Lanes
from replicate.train.memory import out_of_memory
from replicate.train.products import as_products


class CompileFailed(Exception):
    """torch.compile failed. Raised from the original error; the message is its first line."""


@dataclass
class Functions:
    """Copies of a model (`Lanes`) and the functions that train and evaluate them all, compiled or not."""

    kind: tuple[object, ...]
    lanes: Lanes
    losses: Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
    hits: Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
    update: Callable[..., None]
    proven: bool = False
    """Whether each function has worked once, in training and in evaluation; true from the start if not compiled."""

    @contextlib.contextmanager
    def unproven(self) -> Iterator[None]:
        """A context that turns errors, other than lack of memory, into `CompileFailed` until `proven` is true."""
        try:
            yield
        except (Stopped, CaptureFailed):
            raise
        except Exception as error:
            if self.proven or out_of_memory(error):
                raise
            give_up()
            raise CompileFailed(next(iter(str(error).splitlines()), type(error).__name__)) from error


_kept: list[Functions] = []
"""At most one element: the functions compiled last."""


def functions_for(
    runs: Sequence[Run], model: nn.Module, device: str, compiled: bool, example: Tensor | None
) -> Functions:
    """Functions that train `runs` together, all from the weights of `model`; those compiled last, if they fit.

    `example`: images [B, C, H, W] of the right size, to replace layers by ones that suit a GPU (`as_products`); None:
    replace no layers. Compiling happens at the first call. Compiled functions are kept for the next stack; their
    weights are not: `Lanes.stop` frees that memory.
    """
    step = dataclasses.replace(stack_key(runs[0]), seed=0, epochs=1, warmup_epochs=0, eval_every_epochs=1)
    kind = (step, len(runs), device, compiled, example is not None)
    if example is not None:
        model = as_products(model, example)
    if _kept and _kept[0].kind == kind:
        _kept[0].lanes.start(model)
        return _kept[0]
    if compiled:
        forget()
    lanes = Lanes(model, len(runs), setting.compute_dtype(runs[0]))
    if not compiled:
        return Functions(kind, lanes, lanes.losses, lanes.hits, optim.update, proven=True)
    fixed = partial(torch.compile, dynamic=False)
    _kept.append(Functions(kind, lanes, fixed(lanes.losses), fixed(lanes.hits), fixed(optim.update)))
    return _kept[0]


def forget() -> None:
    """Drop the compiled functions."""
    if _kept:
        _kept.clear()
        torch.compiler.reset()  # else PyTorch counts later stacks as recompilations of one function, and gives up


_given_up = False


def give_up() -> None:
    """Make `can_compile` false for the rest of this process."""
    global _given_up
    _given_up = True
    forget()


def can_compile() -> bool:
    """Whether torch.compile can be used on a GPU: Triton and a C compiler are there, and it has not failed so far."""
    compilers = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    found = importlib.util.find_spec("triton") is not None and any(c and shutil.which(c) for c in compilers)
    return found and not _given_up
