"""From the weights of lanes, which a GPU wants laid out otherwise, back to the state of the model itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from replicate.runs.run import Run
from replicate.train import models, optim
from replicate.train.lanes import Lanes
from replicate.train.products import as_products


class OwnLayout:
    """The layout of the model of `run`: where the elements of its parameters are in those of a lane."""

    def __init__(self, run: Run, example: Tensor | None) -> None:
        """`example`: as `products.as_products` got it; None: nothing was laid out otherwise."""
        self._model = models.of_run(run)
        self._run = run
        self._places: dict[str, Tensor] | None = None
        if example is not None:
            # The new layout takes elements from the old and computes nothing, so numbers tell where each has gone.
            numbered = copy.deepcopy(self._model).double()
            for parameter in numbered.parameters():
                parameter.data = torch.arange(parameter.numel(), dtype=torch.float64).view_as(parameter)
            as_products(numbered, example)
            self._places = {name: p.detach().flatten().long() for name, p in numbered.named_parameters()}

    def state(self, lanes: Lanes, lane: int, table: Tensor, steps: int) -> dict[str, Tensor]:
        """The state of the model of one lane after `steps` steps with the coefficients `table` [steps, 3, lanes].

        Weights that the output does not depend on are in no lane. What training makes of them is known without it: by
        gradients of 0 all of them change by the same factor.
        """
        state = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        own = dict(zip(lanes.names, lanes.weights, strict=True))
        for name, _ in self._model.named_parameters():
            if self._places is None:
                state[name] = own[name][lane]
                continue
            whole = state[name].flatten()
            if len(self._places.get(name, ())) < len(whole):
                whole *= _unseen_factor(self._run.optimizer, table[:steps, :, lane])
            if name in own:
                whole[self._places[name]] = own[name][lane].flatten().to(whole)
            state[name] = whole.view_as(state[name])
        for name in state:
            if name in lanes.statistics:
                state[name] = lanes.statistics[name][lane]
            elif name.endswith("num_batches_tracked"):
                state[name] = torch.tensor(steps)
        return state


def _unseen_factor(optimizer: str, table: Tensor) -> float:
    """What a weight without gradient is multiplied by over the steps of `table` [steps, 3]."""
    table = table.double().cpu()
    if optimizer == "adamw":
        return float(table[:, optim.DECAY].prod())
    weights, gradients = [torch.ones(1, dtype=torch.float64)], [torch.zeros(1, dtype=torch.float64)]
    moments = optim.zeros(optimizer, weights)
    for now in table:
        optim.update(weights, moments, [None], gradients, now[:, None])
    return float(weights[0])
