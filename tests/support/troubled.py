"""Trainers that are the real one on a device that is in trouble: for an engine's processes, which find them by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from replicate.runs.run import Run
from replicate.train import fast, stacked
from replicate.train.contract import Trained, Workspace
from replicate.train.stacked import How, _Stack
from tests.support.replayed import Replayed

CRAMPED, FAILING_ONCE = (f"{__name__}:{name}" for name in ("cramped", "failing_once"))
ROOM = 2
"""Lanes that fit where it is cramped."""
ONCE_VARIABLE = "TROUBLED_ONCE"
"""Names the file that is made when the device fails; while it is there, it works."""
GRAPH = How(graph=True, products=True)


def cramped(runs: Sequence[Run], device: str, workspace: Workspace) -> Iterator[Trained]:
    """Memory runs out in the capture of a graph of more than `ROOM` lanes; a CPU's captures are stood in for."""
    eager_step = _Stack.eager_step

    def capturing(stack: _Stack) -> bool:
        if device != "cpu":
            return torch.cuda.is_current_stream_capturing()
        return stack.taken == 0

    def step(stack: _Stack, index: Tensor, now: Tensor) -> Tensor:
        if len(stack.runs) > ROOM and capturing(stack):
            torch.empty(1 << 46, dtype=torch.uint8, device=device)  # 70 TB
        return eager_step(stack, index, now)

    with ExitStack() as patched:
        patched.enter_context(mock.patch.object(_Stack, "eager_step", step))
        if device == "cpu":
            patched.enter_context(mock.patch.object(stacked, "Captured", Replayed))
            patched.enter_context(mock.patch.object(stacked, "_check"))  # which says that a CPU has no graphs
            patched.enter_context(mock.patch.object(Replayed, "calls", [], create=True))
        yield from fast.train(runs, device, workspace, GRAPH)


def failing_once(runs: Sequence[Run], device: str, workspace: Workspace) -> Iterator[Trained]:
    """A kernel reads outside of its memory the first time: nothing of the process can use a GPU any more."""
    once = Path(os.environ[ONCE_VARIABLE])
    if not once.exists():
        once.touch()
        torch.zeros(1, device=device)[torch.full((1,), 5, device=device)].cpu()
    yield from fast.train(runs, device, workspace)
