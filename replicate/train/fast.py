"""The trainers that engines use: stacked in a number of lanes that suits the device, or one run after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from replicate.data import catalogue
from replicate.runs.run import Run
from replicate.runs.stacks import stack_key
from replicate.train import solo
from replicate.train.checkpoint import Checkpoint, Saver
from replicate.train.contract import RunFailed, Stopped, Trained, Workspace
from replicate.train.stacked import FEWEST_LANES, LANES, How, OutOfMemory, train_stack, usual

ALONE = 0
"""For a number of lanes: train each run by itself, in the plain loop."""

_room: dict[tuple[Run, str], int] = {}
"""By kind of stack and device: the lanes that were left where this process has run out of memory."""


def train(runs: Sequence[Run], device: str, workspace: Workspace, how: How | None = None) -> Iterator[Trained]:
    """Train `runs`, which have one `stack_key`: at most `LANES` at once on a GPU, on a CPU all of them.

    Images that are streamed feed one run at a time. On a GPU, where memory has run out, this process goes on with
    fewer lanes for all stacks of the kind. A CPU's memory was perhaps another process's: every stack begins whole.
    """
    how = dataclasses.replace(
        how or usual(runs[0], device),
        checkpoints=workspace.checkpoints,
        notice=workspace.notice,
        stopping=workspace.stopping,
    )
    kind = dataclasses.replace(stack_key(runs[0]), seed=0), device
    if not catalogue.info(runs[0].data).resident:
        lanes = ALONE
    elif device == "cpu":
        lanes = how.lanes or max(FEWEST_LANES, len(runs))
    else:
        lanes = how.lanes or _room.get(kind, LANES)
    waiting = list(runs)

    def shrunk(left: int) -> None:
        nonlocal lanes
        lanes = _room[kind] = min(lanes, left)  # what follows would run out of memory as well

    while waiting and lanes != ALONE:
        part = waiting[:lanes]
        try:
            with workspace.attentive():
                results = train_stack(part, device, dataclasses.replace(how, lanes=lanes, shrunk=shrunk))
        except OutOfMemory as error:
            how.notice(f"{error}; training one by one")
            shrunk(ALONE)
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
