"""Training the landscapes of the calibration, seed by seed over all of them: cut off at any moment, the next goes on.

What a session trains goes into a store first and is added to the record when a seed is whole, so a record from another
machine grows here; runs that are recorded are not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from replicate.calibration import recording
from replicate.store.store import open_store
from replicate.train.engine import local

Progress = Callable[[str, int, int], None]
"""Is told the landscape, how many of its seeds are whole, of how many."""


def train(names: Sequence[str], seeds: int, folder: Path, processes: int | None, report: Progress) -> None:
    """Train and record `seeds` seeds of the landscapes called `names`; `folder` is the store for what is not whole.

    Raises `TrainingFailed`, `StoreError` and `DataError` as any training does.
    """
    store = open_store(folder)
    for seed in range(seeds):
        for name in names:
            recorded = recording.read(name)
            if missing := recording.missing(recorded, seed):
                local.ensure(store, missing, processes=processes)
                found = [stored for run in missing if (stored := store.read(run.key)) is not None]
                recording.write(recording.path_of(name), recording.added(recorded, found))
            report(name, seed + 1, seeds)
