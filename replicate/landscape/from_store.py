"""Builds the landscapes of a claim from the runs of a store, using no other runs than the claim needs."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from replicate.data import catalogue
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim
from replicate.paper.registry import CLAIMS
from replicate.runs import decay, schedule
from replicate.runs.needed import Key, label, points_of, runs_for
from replicate.runs.run import Point, Run
from replicate.runs.scales import NotTrained, Scale
from replicate.store.snapshot import Snapshot
from replicate.store.store import Store, StoredRun

MOST_CELLS = 2
"""`all_landscapes` ignores claims about more cells than this."""


class Missing(Exception):
    """The store lacks runs that a claim needs; the message can serve as the reason of a verdict."""

    def __init__(
        self, needed: Collection[Run], have: int, missing: Counter[str], complete: Mapping[Key, tuple[int, ...]]
    ) -> None:
        self.needed = needed
        self.have = have
        self.missing = missing
        """Number of missing runs by cell and variant, e.g. `resnet50-cifar100` or `resnet50-cifar100 sgd`."""
        self.complete = complete
        """Cell and variant → the seeds whose runs are all in the store, ascending."""
        where = ", ".join(f"{label}: {n}" for label, n in missing.items())
        super().__init__(f"{len(needed) - have} of {len(needed)} runs are not in the store ({where})")


@dataclass(frozen=True)
class Collected:
    """The landscape of each cell and variant of a claim, and the runs, without repeats, behind them."""

    landscapes: Mapping[Key, Landscape]
    runs: Sequence[StoredRun]


def missing_runs(claim: Claim, scale: Scale, store: Store, seeds: int | None = None) -> list[Run]:
    """The runs of `claim` that the store lacks, in the order of `runs_for`; damaged records count as lacking.

    `seeds`: consider only the first `seeds` seeds of each cell. Grids around an optimum are extended as results
    arrive, so runs that depend on missing results are left out; the list is empty if nothing is left to train.
    """
    now = Snapshot(store)
    return [run for run in runs_for([claim], scale, now.result, seeds) if now.get(run) is None]


def collect(
    claim: Claim, scale: Scale, store: Store | Snapshot, seeds: Mapping[Key, Collection[int]] | None = None
) -> Collected:
    """The landscapes of `claim`, from the runs that it needs. `seeds`: cell and variant → seeds to use; None for all.

    Columns: lr, wd, seed, score (final test accuracy in percent, NaN where diverged), best (the largest accuracy over
    epochs), diverged, and shrinkage (the share by which decay alone would shrink the weights over training). Raises
    `Missing` if a run is not in the store, and `NotTrained` if the scale does not train the claim's runs.
    """
    now = Snapshot(store)
    points = points_of(claim, scale, now.result, seeds)
    needed = {p.run.key: p.run for of_cell in points.values() for p in of_cell}
    found = {key: stored for key, run in needed.items() if (stored := now.get(run)) is not None}
    missing = Counter(
        label(where) for where, of_cell in points.items() for key in {p.run.key for p in of_cell} - found.keys()
    )
    if missing:
        raise Missing(needed.values(), len(found), missing, _complete(points, found))
    landscapes = {where: _landscape(where, of_cell, found) for where, of_cell in points.items()}
    return Collected(landscapes, list(found.values()))


def _complete(points: Mapping[Key, Sequence[Point]], found: Collection[str]) -> dict[Key, tuple[int, ...]]:
    """Cell and variant → the seeds all of whose runs are stored (have keys in `found`), ascending."""
    return {
        where: tuple(sorted({p.seed for p in of_cell} - {p.seed for p in of_cell if p.run.key not in found}))
        for where, of_cell in points.items()
    }


def all_landscapes(scale: Scale, store: Store) -> dict[Key, Landscape]:
    """For each cell and variant, the landscape of the first claim whose runs are all in `store`, if there is one.

    The first claims of the registry, those on ratios, use all grids and so have the largest landscapes.
    """
    found: dict[Key, Landscape] = {}
    for claim in CLAIMS:
        places = {(part.cell, part.variant) for part in claim.parts}
        if len(claim.cells) > MOST_CELLS or places <= found.keys():
            continue
        with contextlib.suppress(NotTrained, Missing):
            more = collect(claim, scale, store).landscapes
            found |= {place: landscape for place, landscape in more.items() if place not in found}
    return found


def _landscape(where: Key, points: list[Point], found: Mapping[str, StoredRun]) -> Landscape:
    rows = []
    synthetic = False
    known = catalogue.DATASETS.get(points[0].run.data.name)
    for point in points:
        stored = found[point.run.key]
        result = stored.result
        score = math.nan if result.diverged else result.accuracy_pp
        shrinkage = decay.share(point.run, point.weight_decay) if known else math.nan
        row = (point.lr, point.weight_decay, point.seed, score, result.best_accuracy_pp, result.diverged, shrinkage)
        rows.append(row)
        synthetic |= stored.synthetic
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score", "best", "diverged", "shrinkage"])
    chance_pp = 100 / known.num_classes if known else 0.0
    steps = float(schedule.steps(points[0].run)) if known else None
    return Landscape(where[0].arch, where[0].dataset, frame, chance_pp=chance_pp, synthetic=synthetic, steps=steps)
