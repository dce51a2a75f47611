"""The trainers that engines call: `train`, which trains as many runs at once as suit the device, and `one_by_one`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from replicate.data import catalogue
from replicate.runs.run import Run
from replicate.train import solo
from replicate.train.checkpoint import Saver
from replicate.train.contract import RunFailed, Stopped, Trained, Workspace
from replicate.train.kept_models import sealed
from replicate.train.stacked import FEWEST_LANES, LANES, How, train_stack, usual


def train(runs: Sequence[Run], device: str, workspace: Workspace, how: How | None = None) -> Iterator[Trained]:
    """Train `runs`, of equal `stack_key`, together: by default on a GPU at most `LANES` at once, on a CPU all of them.

    Runs on streamed images are trained one at a time. `how`: settings for training together, by default `usual`.
    """
    how = how or usual(runs[0], device)
    lanes = workspace.lanes or how.lanes or (len(runs) if device == "cpu" else LANES)
    if workspace.lanes == 1 or not catalogue.info(runs[0].data).resident:
        yield from one_by_one(runs, device, workspace)
        return
    for start in range(0, len(runs), lanes):
        part = runs[start : start + lanes]
        with workspace.attentive():
            states: dict[int, dict[str, Tensor]] = {}
            keep = states.__setitem__ if workspace.keep_models else None
            results = train_stack(part, device, replace(how, lanes=max(lanes, FEWEST_LANES)), workspace, keep)
        trained = {"trainer": "stacked", "lanes": len(part), "precision": runs[0].precision}
        for lane, (run, result) in enumerate(zip(part, results, strict=True)):
            model = sealed(run, result, states.pop(lane)) if lane in states else None
            yield Trained(run, result, trained, model)


def one_by_one(runs: Sequence[Run], device: str, workspace: Workspace) -> Iterator[Trained]:
    """Train `runs` in the plain loop, one after the other."""
    for run in runs:
        saver = Saver.of_training(workspace, "solo", device, [run])
        try:
            with workspace.attentive():
                states: list[dict[str, Tensor]] = []
                result = solo.train(run, device, saver, states.append if workspace.keep_models else None)
        except Stopped:
            raise
        except Exception as error:
            raise RunFailed(run) from error
        model = sealed(run, result, states.pop()) if states else None
        yield Trained(run, result, {"trainer": "solo", "lanes": 1, "precision": run.precision}, model)
