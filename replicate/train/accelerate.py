"""Records a training step as a CUDA graph, which launches all kernels at once and needs fixed shapes and addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

WARMUPS = 3
"""Steps before the capture, on its stream: in the first steps libraries choose their kernels and allocate memory."""


class CaptureFailed(Exception):
    """Capturing a CUDA graph failed; raised from the original error. The process is then unreliable and must end."""


class Captured:
    """`step`, a function of image indices and coefficients, captured once for their shapes and then replayed."""

    def __init__(
        self,
        step: Callable[[Tensor, Tensor], Tensor],
        index: Tensor,
        now: Tensor,
        changed: Sequence[Tensor],
        other: Captured | None = None,
    ) -> None:
        """`changed`: the tensors that a step changes in place; the constructor restores them. `other`: a capture that
        is never replayed at the same time, whose memory pool is shared."""
        self._index, self._now = index.clone(), now.clone()
        before = [tensor.clone() for tensor in changed]
        here, side = torch.cuda.current_stream(index.device), _side_stream(index.device)
        side.wait_stream(here)
        self._graph = torch.cuda.CUDAGraph()
        pool = None if other is None else other._graph.pool()
        # The capture is inside this block because torch.cuda.graph leaves its stream current if a capture fails.
        with torch.cuda.stream(side):
            for _ in range(WARMUPS):
                step(self._index, self._now)
            # Without `stream`, torch captures on one stream per process, which belongs to the device used first.
            try:
                with torch.cuda.graph(self._graph, pool=pool, stream=side):
                    self._losses = step(self._index, self._now)
            except Exception as error:
                raise CaptureFailed(str(error)) from error
        here.wait_stream(side)
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(old)

    def __call__(self, index: Tensor, now: Tensor) -> Tensor:
        """Replay one step; returns its losses in a tensor that the next step overwrites."""
        self._index.copy_(index)
        self._now.copy_(now)
        self._graph.replay()
        return self._losses


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream for captures on `device`: a single one, because libraries keep a workspace for each stream."""
    return torch.cuda.Stream(device)
