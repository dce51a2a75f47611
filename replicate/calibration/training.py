"""Training the landscapes of the calibration, some seeds at a time: cut off at any moment, the next call goes on.

What a session trains goes into a store first and is added to the record when these seeds are whole, so a record from
another machine grows here; runs that are recorded are not trained again.
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
"""Seeds that are trained together: fewer, and processes start more often."""

Progress = Callable[[str, int, int], None]
"""Is told the landscape, how many of its seeds are whole, of how many."""


def train(names: Sequence[str], seeds: int, folder: Path, processes: int | None, report: Progress) -> None:
    """Train and record `seeds` seeds of the landscapes called `names`; `folder` is the store for what is not whole.

    Raises `TrainingFailed`, `StoreError` and `DataError` as any training does.
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
    """At most `sample` recorded runs of the landscape `name`, drawn at random but always the same: as recorded, as
    trained again in the store `folder`, and whether by the same machine and versions.

    Raises UsageError where nothing is recorded, and as `train` does.
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
