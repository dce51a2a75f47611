"""Training many runs the fastest way that a device allows: stacked in as many lanes as pay, or one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from replicate.runs import Run
from replicate.train import setting, solo, stack_size
from replicate.train.result import Result
from replicate.train.stacked import How, OutOfMemory, train_stack


def train(
    runs: Sequence[Run], device: str = "cpu", *, rates: Path, how: How | None = None
) -> tuple[list[Result], dict[str, Any]]:
    """Train `runs`, which have one `stack_key`; results in order, and how it was done, for their provenance.

    `rates`: the folder in which measured rates are kept. On a CPU runs are always stacked, however fast: there a
    stack's results do not depend on its size and company, so they must not depend on a measurement either.
    """
    how = how or How()
    lanes = how.lanes or stack_size.choose(runs[0], device, rates, how, may_be_alone=device != "cpu")
    if lanes != stack_size.ALONE:
        shrunk = partial(stack_size.remember_limit, runs[0], device, rates, how=how)
        try:
            results = train_stack(runs, device, dataclasses.replace(how, lanes=lanes, shrunk=shrunk))
            return results, {"trainer": "stacked", "lanes": min(lanes, len(runs)), "precision": how.precision}
        except OutOfMemory as error:
            how.notice(f"{error}; training one by one")
            shrunk(stack_size.ALONE)
    if how.precision != "float32":
        raise setting.TrainError(
            f"precision {how.precision}: a run alone is trained in float32; expected room for a stack"
        )
    return [solo.train(run, device) for run in runs], {"trainer": "solo", "lanes": 1, "precision": "float32"}
