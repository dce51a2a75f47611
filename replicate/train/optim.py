"""AdamW and SGD with momentum for many runs at once, each lane with a learning rate and weight decay of its own.

The arithmetic is that of torch.optim, in its order, written out because torch's own takes one number for all. What a
lane needs at a step is worked out beforehand, in float64 on the host: a step then reads nothing but device memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from replicate.paper.protocol import ADAMW_BETAS, ADAMW_EPS, SGD_MOMENTUM
from replicate.runs.run import Run
from replicate.train.schedule import factors

OPTIMIZERS = ("adamw", "sgd")

DECAY, STEP_SIZE, CORRECTION = 0, 1, 2
"""Rows of the coefficients of a step. AdamW: factor on the weights, step size, root of the second bias correction.
SGD: weight decay, learning rate, nothing."""


@dataclass
class Moments:
    """What the optimisers remember."""

    first: Tensor
    """[lanes, P]: AdamW's mean of gradients, SGD's momentum."""
    second: Tensor
    """[lanes with AdamW, P]: mean of squared gradients."""


def order_of(runs: Sequence[Run]) -> list[int]:
    """Which run goes into which lane: those with AdamW first, else as given."""
    return sorted(range(len(runs)), key=lambda i: runs[i].optimizer != "adamw")


def adamw_lanes(runs: Sequence[Run]) -> int:
    """How many lanes use AdamW: the first ones."""
    count = sum(run.optimizer == "adamw" for run in runs)
    if any(run.optimizer != "adamw" for run in runs[:count]):
        raise ValueError("expected the runs with AdamW first; see `order_of`")
    return count


def zeros(runs: Sequence[Run], theta: Tensor) -> Moments:
    """The moments before the first step."""
    return Moments(torch.zeros_like(theta), torch.zeros_like(theta[: adamw_lanes(runs)]))


def coefficients(runs: Sequence[Run], steps: int, warmup_steps: int, like: Tensor) -> Tensor:
    """What each step needs of each lane: [steps, 3, lanes] of the type and on the device of `like`."""
    by_name = {name: factors(name, steps, warmup_steps) for name in {run.schedule for run in runs}}
    lr = torch.tensor([[run.lr] for run in runs], dtype=torch.float64)
    lr = (lr * torch.tensor([by_name[run.schedule] for run in runs], dtype=torch.float64)).T  # [steps, lanes]
    decay = torch.tensor([run.weight_decay for run in runs], dtype=torch.float64).expand(steps, -1)
    taken = torch.arange(1, steps + 1, dtype=torch.float64)[:, None]
    first, second = (1 - torch.tensor(beta, dtype=torch.float64) ** taken for beta in ADAMW_BETAS)
    adamw = torch.arange(len(runs)) < adamw_lanes(runs)
    table = torch.empty(steps, 3, len(runs), dtype=torch.float64)
    # 1 - lr * decay is rounded once, to the type of the weights: where it rounds to 1, decay is exactly none.
    table[:, DECAY] = torch.where(adamw, 1 - lr * decay, decay)
    table[:, STEP_SIZE] = torch.where(adamw, lr / first, lr)
    table[:, CORRECTION] = second.sqrt().expand(-1, len(runs))
    return table.to(like.dtype).to(like.device)


def freeze(table: Tensor, alive: Tensor) -> None:
    """Set to zero, in the coefficients of all steps, what moves the weights of lanes that are not `alive` [lanes]."""
    table[:, :CORRECTION].masked_fill_(~alive, 0)


@torch.no_grad()
def update(
    theta: Tensor,
    moments: Moments,
    gradients: Sequence[Tensor],
    slices: Sequence[tuple[int, int]],
    now: Tensor,
) -> None:
    """One step in place. `gradients` [lanes, ...] are of the columns `slices` of `theta`; `now`: [3, lanes]."""
    adamw = len(moments.second)
    decay, step_size, correction = now[:, :, None]
    for gradient, (a, b) in zip(gradients, slices, strict=True):
        g = gradient.flatten(1).to(theta.dtype)
        weights, first = theta[:, a:b], moments.first[:, a:b]
        if adamw:
            on = slice(0, adamw)
            adamw_(weights[on], g[on], first[on], moments.second[:, a:b], decay[on], step_size[on], correction[on])
        if adamw < len(theta):
            on = slice(adamw, None)
            sgd_(weights[on], g[on], first[on], decay[on], step_size[on])


def adamw_(
    weights: Tensor, g: Tensor, first: Tensor, second: Tensor, shrink: Tensor, step_size: Tensor, correction: Tensor
) -> None:
    """AdamW (Loshchilov & Hutter 2019) as torch does it; [lanes, p] each, the last three [lanes, 1]."""
    beta1, beta2 = ADAMW_BETAS
    weights.mul_(shrink)
    first.lerp_(g, 1 - beta1)
    second.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    denominator = second.sqrt().div_(correction).add_(ADAMW_EPS)
    weights.sub_(torch.mul(first, step_size).div_(denominator))


def sgd_(weights: Tensor, g: Tensor, momentum: Tensor, decay: Tensor, lr: Tensor) -> None:
    """SGD with momentum and decay in the gradient, as torch does it; [lanes, p] each, the last two [lanes, 1].

    torch starts the momentum with the first gradient; from zero it is the same.
    """
    momentum.mul_(SGD_MOMENTUM).add_(torch.addcmul(g, weights, decay))
    weights.sub_(torch.mul(momentum, lr))
