"""Converts trained weights, whose layout may have been changed for a GPU, to the original model's `state_dict`."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from replicate.runs.run import Run
from replicate.train import models, optim
from replicate.train.lanes import Lanes
from replicate.train.products import as_products


class OwnLayout:
    """Where each element of the trained parameters belongs in the parameters of the original model of `run`."""

    def __init__(self, run: Run, example: Tensor | None) -> None:
        """`example`: images of the size for which `products.as_products` changed the layout; None: it is unchanged."""
        self._model = models.of_run(run)
        self._run = run
        self._places: dict[str, Tensor] | None = None
        if example is not None:
            # `as_products` only moves elements, so numbering the elements shows where each of them goes.
            numbered = copy.deepcopy(self._model).double()
            for parameter in numbered.parameters():
                parameter.data = torch.arange(parameter.numel(), dtype=torch.float64).view_as(parameter)
            as_products(numbered, example)
            self._places = {name: p.detach().flatten().long() for name, p in numbered.named_parameters()}

    def state(self, lanes: Lanes, lane: int, table: Tensor, steps: int) -> dict[str, Tensor]:
        """The `state_dict` of one lane's model after `steps` steps with the coefficients `table` [steps, 3, lanes].

        A lane lacks the weights that cannot influence the output. Their gradient is 0, so training multiplies all these
        weights by the same known factor.
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
    """The factor by which the steps of `table` [steps, 3] multiply a weight whose gradient is 0."""
    table = table.double().cpu()
    if optimizer == "adamw":
        return float(table[:, optim.DECAY].prod())
    weights, gradients = [torch.ones(1, dtype=torch.float64)], [torch.zeros(1, dtype=torch.float64)]
    moments = optim.zeros(optimizer, weights)
    for now in table:
        optim.update(weights, moments, [None], gradients, now[:, None])
    return float(weights[0])
