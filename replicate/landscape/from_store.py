"""From the runs of a store to the landscapes of a claim, built from exactly the points that it needs."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd

from replicate.data import catalogue
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim
from replicate.runs.needed import Key, label, points_of, runs_for
from replicate.runs.run import Point, Run
from replicate.runs.scales import Scale
from replicate.store.store import Store, StoredRun


class Missing(Exception):
    """Runs that a claim needs and the store lacks; the message is the reason, fit for a verdict."""

    def __init__(self, have: int, need: int, missing: Counter[str]) -> None:
        self.have = have
        self.need = need
        self.missing = missing
        """How many runs are missing by cell and variant, e.g. `resnet50-cifar100` or `resnet50-cifar100 sgd`."""
        where = ", ".join(f"{label}: {n}" for label, n in missing.items())
        super().__init__(f"{need - have} of {need} runs are not in the store ({where})")


def missing_runs(claim: Claim, scale: Scale, store: Store) -> list[Run]:
    """The runs of `claim` that the store lacks, in the order of `runs_for`; every record that is there is checked."""
    return [run for run in runs_for([claim], scale) if store.get(run) is None]


def landscapes_for(claim: Claim, scale: Scale, store: Store) -> dict[Key, Landscape]:
    """The landscape of each cell and variant of `claim`, from exactly the points of its parts.

    Columns: lr, wd, seed, score (final test accuracy in percent, NaN where diverged), best (the largest over the
    epochs) and diverged. Raises `Missing` where a run is not in the store, `NotTrained` where the scale has none.
    """
    points = points_of(claim, scale)
    found: dict[str, StoredRun | None] = {}
    for run in {p.run.key: p.run for of_cell in points.values() for p in of_cell}.values():
        found[run.key] = store.get(run)
    missing = Counter(
        label(where) for where, of_cell in points.items() for key in {p.run.key for p in of_cell} if found[key] is None
    )
    if missing:
        raise Missing(sum(stored is not None for stored in found.values()), len(found), missing)
    return {where: _landscape(where, of_cell, found) for where, of_cell in points.items()}


def _landscape(where: Key, points: list[Point], found: dict[str, StoredRun | None]) -> Landscape:
    rows = []
    synthetic = False
    for point in points:
        stored = found[point.run.key]
        assert stored is not None
        result = stored.result
        score = math.nan if result.diverged else result.accuracy_pp
        rows.append((point.lr, point.weight_decay, point.seed, score, result.best_accuracy_pp, result.diverged))
        synthetic |= stored.synthetic
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score", "best", "diverged"])
    known = catalogue.DATASETS.get(points[0].run.data.name)
    chance_pp = 100 / known.num_classes if known else 0.0
    return Landscape(where[0].arch, where[0].dataset, frame, chance_pp=chance_pp, synthetic=synthetic)
