"""Trains the landscapes of the calibration, a few seeds at a time; training can be interrupted and resumed at any time.

Runs go into a store first and are added to the recorded file once all runs of these seeds are stored, so a file from
another machine can be extended. Recorded runs are not trained again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from replicate.calibration import recording
from replicate.calibration.recording import Row
from replicate.store.store import open_store
from replicate.text import UsageError
from replicate.train.engine import local

AT_ONCE = 5
"""Number of seeds trained together; with fewer, processes would be started more often."""

Progress = Callable[[str, int, int], None]
"""Called with the landscape's name, the number of its seeds that are recorded, and the number wanted."""


def train(names: Sequence[str], seeds: int, folder: Path, processes: int | None, report: Progress) -> None:
    """Trains and records `seeds` seeds of the landscapes `names`; `folder` is the store for runs not yet recorded.

    Raises `TrainingFailed`, `StoreError` and `DataError`, like any training.
    """
    store = open_store(folder)
    for first in range(0, seeds, AT_ONCE):
        last = min(first + AT_ONCE, seeds)
        for name in names:
            recorded = recording.read(name)
            if missing := [run for seed in range(first, last) for run in recording.missing(recorded, seed)]:
                local.ensure(store, missing, processes=processes)
                found = [stored for run in missing if (stored := store.read(run.key)) is not None]
                recording.write(recording.path_of(name), recording.added(recorded, found))
            report(name, last, seeds)


def again(name: str, sample: int, folder: Path) -> list[tuple[Row, Row, bool]]:
    """Trains up to `sample` recorded runs of the landscape `name` again, in the store `folder`.

    Returns, for each run, the recorded row, the new row, and whether machine and versions are the same. The sample is
    random but always the same. Raises UsageError if nothing is recorded, and the errors that `train` raises.
    """
    recorded = recording.read(name)
    if not recorded.rows:
        raise UsageError(f"landscape {name}: expected recorded runs in {recording.path_of(name)}, found none")
    chosen = random.Random(0).sample(recorded.rows, min(sample, len(recorded.rows)))
    seeds = sorted({row.seed for row in chosen})
    runs = {(run.lr, run.weight_decay, run.seed): run for seed in seeds for run in recorded.landscape.runs(seed)}
    trained = [runs[row.lr, row.weight_decay, row.seed] for row in chosen]
    store = open_store(folder)
    local.ensure(store, trained)
    anew = recording.Recorded(recorded.landscape, (), ())
    found = recording.added(anew, [stored for run in trained if (stored := store.read(run.key)) is not None])
    before, after = ([{**origin, "code": None} for origin in one.origins] for one in (recorded, found))
    return [(old, new, before[old.origin] == after[new.origin]) for old, new in zip(chosen, found.rows, strict=True)]
