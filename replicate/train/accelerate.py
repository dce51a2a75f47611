"""A training step replayed as a CUDA graph: fixed shapes, fixed addresses, one launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

WARMUPS = 3
"""Steps before the capture, on a stream of their own: libraries choose kernels and allocate in the first ones."""


class CaptureFailed(Exception):
    """Raised from the error itself. After a failed capture nothing of the process can be relied on."""


class Captured:
    """`step(index, now)`, captured once for the shapes of its arguments."""

    def __init__(
        self,
        step: Callable[[Tensor, Tensor], Tensor],
        index: Tensor,
        now: Tensor,
        changed: Sequence[Tensor],
        other: Captured | None = None,
    ) -> None:
        """`changed`: what a step changes in place; it is as before when this returns. `other`: one whose memory may be
        used again, because it is never replayed while this one is."""
        self._index, self._now = index.clone(), now.clone()
        before = [tensor.clone() for tensor in changed]
        here, side = torch.cuda.current_stream(index.device), _side_stream(index.device)
        side.wait_stream(here)
        self._graph = torch.cuda.CUDAGraph()
        pool = None if other is None else other._graph.pool()
        # Around the capture too: where that fails, torch.cuda.graph leaves its stream the current one.
        with torch.cuda.stream(side):
            for _ in range(WARMUPS):
                step(self._index, self._now)
            # By default all captures of a process are on one stream, of the device that was the current one first.
            try:
                with torch.cuda.graph(self._graph, pool=pool, stream=side):
                    self._losses = step(self._index, self._now)
            except Exception as error:
                raise CaptureFailed(str(error)) from error
        here.wait_stream(side)
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(old)

    def __call__(self, index: Tensor, now: Tensor) -> Tensor:
        """The losses of one step: overwritten by the next."""
        self._index.copy_(index)
        self._now.copy_(now)
        self._graph.replay()
        return self._losses


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of `device` that captures are made on: one, because libraries keep a workspace for each."""
    return torch.cuda.Stream(device)
