"""The trainers that engines use: stacked in as many lanes as a device is fastest with, or one run after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from replicate.data import catalogue
from replicate.runs.run import Run
from replicate.train import solo, stack_size
from replicate.train.checkpoint import Checkpoint, Saver
from replicate.train.contract import RunFailed, Stopped, Trained, Workspace
from replicate.train.stacked import FEWEST_LANES, How, OutOfMemory, train_stack, usual


def train(runs: Sequence[Run], device: str, workspace: Workspace, how: How | None = None) -> Iterator[Trained]:
    """Train `runs`, which have one `stack_key`, stacked where that pays on `device`.

    Images that are streamed feed one run at a time. On a CPU the others are always stacked, all at once: there a
    stack's results do not depend on its size and company, so they must not depend on a measurement of the moment.
    """
    how = dataclasses.replace(
        how or usual(runs[0], device),
        checkpoints=workspace.checkpoints,
        notice=workspace.notice,
        stopping=workspace.stopping,
    )
    if not catalogue.info(runs[0].data).resident:
        lanes = stack_size.ALONE
    elif device == "cpu":
        lanes = how.lanes or max(FEWEST_LANES, len(runs))
    else:
        lanes = how.lanes or stack_size.choose(runs[0], device, workspace.rates, how)
    waiting = list(runs)

    def shrunk(left: int) -> None:
        nonlocal lanes
        lanes = min(lanes, left)  # what follows would run out of memory as well
        stack_size.remember_limit(runs[0], device, workspace.rates, left, how=how)

    while waiting and lanes != stack_size.ALONE:
        part = waiting[:lanes]
        try:
            with workspace.attentive():
                results = train_stack(part, device, dataclasses.replace(how, lanes=lanes, shrunk=shrunk))
        except OutOfMemory as error:
            how.notice(f"{error}; training one by one")
            shrunk(stack_size.ALONE)
            break
        said = {"trainer": "stacked", "lanes": len(part), "precision": runs[0].precision}
        yield from (Trained(run, result, said) for run, result in zip(part, results, strict=True))
        del waiting[: len(part)]
    yield from one_by_one(waiting, device, workspace)


def one_by_one(runs: Sequence[Run], device: str, workspace: Workspace) -> Iterator[Trained]:
    """Train `runs` in the plain loop, one after the other."""
    for run in runs:
        checkpoint = Checkpoint.of_training(workspace.checkpoints, "solo", device, [run], workspace.notice)
        saver = Saver(checkpoint, stopping=workspace.stopping, notice=workspace.notice)
        try:
            with workspace.attentive():
                result = solo.train(run, device, saver)
        except Stopped:
            raise
        except Exception as error:
            raise RunFailed(run) from error
        yield Trained(run, result, {"trainer": "solo", "lanes": 1, "precision": run.precision})
