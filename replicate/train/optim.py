"""AdamW and SGD with momentum for many lanes at once, each with its own learning rate and weight decay.

The arithmetic and its order are those of torch.optim, which takes a single learning rate for all lanes. The
coefficients of all steps are computed in advance, in float64 on the host, so that a step reads device memory only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from replicate.paper.protocol import ADAMW_BETAS, ADAMW_EPS, SGD_MOMENTUM
from replicate.runs.run import Run
from replicate.runs.schedule import factors
from replicate.train.lanes import side_by_side

OPTIMIZERS = ("adamw", "sgd")

DECAY, STEP_SIZE, CORRECTION = 0, 1, 2
"""Rows of the coefficients of a step. AdamW: factor on the weights, step size, root of the second bias correction.
SGD: weight decay, learning rate; the third row is not used."""


@dataclass(frozen=True)
class Moments:
    """The state of an optimiser: lists of tensors [lanes, ...], one for each of the weights."""

    first: list[Tensor]
    """AdamW's running mean of gradients, or SGD's momentum."""
    second: list[Tensor]
    """AdamW's running mean of squared gradients; empty for SGD."""


def zeros(optimizer: str, weights: Sequence[Tensor]) -> Moments:
    """The moments before the first step."""

    def none() -> list[Tensor]:
        return [side_by_side(len(tensor), torch.zeros_like(tensor[0])) for tensor in weights]

    return Moments(none(), none() if optimizer == "adamw" else [])


def coefficients(runs: Sequence[Run], steps: int, warmup_steps: int, like: Tensor) -> Tensor:
    """The coefficients of every step for each lane, [steps, 3, lanes], with the type and on the device of `like`."""
    by_name = {name: factors(name, steps, warmup_steps) for name in {run.schedule for run in runs}}
    lr = torch.tensor([[run.lr] for run in runs], dtype=torch.float64)
    lr = (lr * torch.tensor([by_name[run.schedule] for run in runs], dtype=torch.float64)).T  # [steps, lanes]
    decay = torch.tensor([run.weight_decay for run in runs], dtype=torch.float64).expand(steps, -1)
    taken = torch.arange(1, steps + 1, dtype=torch.float64)[:, None]
    first, second = (1 - torch.tensor(beta, dtype=torch.float64) ** taken for beta in ADAMW_BETAS)
    adamw = runs[0].optimizer == "adamw"
    table = torch.empty(steps, 3, len(runs), dtype=torch.float64)
    # 1 - lr * decay is rounded only once, to the type of the weights: if it rounds to 1, there is no decay at all.
    table[:, DECAY] = 1 - lr * decay if adamw else decay
    table[:, STEP_SIZE] = lr / first if adamw else lr
    table[:, CORRECTION] = second.sqrt().expand(-1, len(runs))
    return table.to(like.dtype).to(like.device)


def freeze(table: Tensor, alive: Tensor) -> None:
    """Zero the coefficients of all steps for lanes that are not `alive` [lanes], so that their weights never change."""
    table[:, :CORRECTION].masked_fill_(~alive, 0)


@torch.no_grad()
def update(
    weights: Sequence[Tensor],
    moments: Moments,
    copies: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    now: Tensor,
) -> None:
    """Take one step in place for all weights: with AdamW if there are second moments, else with SGD.

    `weights`, `gradients`: [lanes, ...]; `copies`: the weights in another type, to be recomputed, or None; `now`: the
    coefficients of this step, [3, lanes]. torch.compile turns operations on whole lists into one kernel if the lists
    are equally long and hold no views: results for views would be written elsewhere and copied.
    """
    by_dims = [{dims: row.view(-1, *[1] * (dims - 1)) for dims in {tensor.dim() for tensor in weights}} for row in now]
    for with_copy in (True, False):
        some = [i for i, copy in enumerate(copies) if (copy is not None) is with_copy]
        if not some:
            continue
        of = [weights[i] for i in some]
        g = [gradients[i].to(tensor.dtype) for i, tensor in zip(some, of, strict=True)]
        first = [moments.first[i] for i in some]
        decay, step_size, correction = ([rows[tensor.dim()] for tensor in of] for rows in by_dims)
        if moments.second:
            adamw_(of, g, first, [moments.second[i] for i in some], decay, step_size, correction)
        else:
            sgd_(of, g, first, decay, step_size)
        if with_copy:
            torch._foreach_copy_([copy for copy in copies if copy is not None], of)


def adamw_(
    weights: list[Tensor],
    g: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    shrink: list[Tensor],
    step_size: list[Tensor],
    correction: list[Tensor],
) -> None:
    """A step of AdamW (Loshchilov & Hutter 2019) as in torch; tensors [lanes, ...], coefficients [lanes, 1, ...]."""
    beta1, beta2 = ADAMW_BETAS
    torch._foreach_mul_(weights, shrink)
    torch._foreach_lerp_(first, g, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, g, g, value=1 - beta2)
    denominator = torch._foreach_sqrt(second)
    torch._foreach_div_(denominator, correction)
    torch._foreach_add_(denominator, ADAMW_EPS)
    change = torch._foreach_mul(first, step_size)
    torch._foreach_div_(change, denominator)
    torch._foreach_sub_(weights, change)


def sgd_(weights: list[Tensor], g: list[Tensor], momentum: list[Tensor], decay: list[Tensor], lr: list[Tensor]) -> None:
    """A step of SGD with momentum and weight decay in the gradient, as in torch; shapes as for `adamw_`.

    torch starts the momentum with the first gradient, which is the same as starting from zero.
    """
    torch._foreach_mul_(momentum, SGD_MOMENTUM)
    torch._foreach_add_(momentum, torch._foreach_addcmul(g, weights, decay))
    torch._foreach_sub_(weights, torch._foreach_mul(momentum, lr))
