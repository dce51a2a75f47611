"""A training step replayed as a CUDA graph: fixed shapes, fixed addresses, one launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARMUPS = 3
"""Steps before the capture, on a stream of their own: libraries choose kernels and allocate in the first ones."""


class Captured:
    """`step(index, now)`, captured once for the shapes of its arguments."""

    def __init__(
        self, step: Callable[[Tensor, Tensor], Tensor], index: Tensor, now: Tensor, changed: Sequence[Tensor]
    ) -> None:
        """`changed`: what a step changes in place; it is as before when this returns."""
        self._index, self._now = index.clone(), now.clone()
        before = [tensor.clone() for tensor in changed]
        stream = torch.cuda.Stream(index.device)
        stream.wait_stream(torch.cuda.current_stream(index.device))
        with torch.cuda.stream(stream):
            for _ in range(WARMUPS):
                step(self._index, self._now)
        torch.cuda.current_stream(index.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = step(self._index, self._now)
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(old)

    def __call__(self, index: Tensor, now: Tensor) -> Tensor:
        """The losses of one step: overwritten by the next."""
        self._index.copy_(index)
        self._now.copy_(now)
        self._graph.replay()
        return self._losses
