"""Collecting: from the store's runs to the landscapes of a claim, built from exactly the points that it needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from replicate import data, scales
from replicate.landscape import Landscape
from replicate.paper.claims import Claim, Part
from replicate.runs import Cell, Point, Run
from replicate.scales import NotTrained, Scale
from replicate.store import Store, StoredRun

__all__ = ["Missing", "NotTrained", "landscapes_for", "missing_runs", "parts_at", "runs_for", "split"]

Key = tuple[Cell, str]
"""A cell and the variant of its training: what one landscape is of."""


class Missing(Exception):
    """Runs that a claim needs and the store lacks; the message is the reason, fit for a verdict."""

    def __init__(self, have: int, need: int, missing: Counter[str]) -> None:
        self.have = have
        self.need = need
        self.missing = missing
        """How many runs are missing by cell and variant, e.g. `resnet50-cifar100` or `resnet50-cifar100 sgd`."""
        where = ", ".join(f"{label}: {n}" for label, n in missing.items())
        super().__init__(f"{need - have} of {need} runs are not in the store ({where})")


def split(claims: Iterable[Claim], scale: Scale) -> tuple[list[Claim], dict[str, str]]:
    """The claims that `scale` trains all parts of, and by id the reason why not for the others."""
    trained, left_out = [], {}
    for claim in claims:
        try:
            _points(claim, scale)
            trained.append(claim)
        except NotTrained as reason:
            left_out[claim.id] = str(reason)
    return trained, left_out


def runs_for(claims: Iterable[Claim], scale: Scale) -> list[Run]:
    """The distinct runs that `claims` need: cell by cell as the claims name them, there seed by seed.

    Raises `NotTrained` where the scale leaves out a part; see `split`.
    """
    by_cell: dict[Key, dict[str, Run]] = {}
    for claim in claims:
        for where, points in _points(claim, scale).items():
            by_cell.setdefault(where, {}).update({p.run.key: p.run for p in points})
    cells = list(dict.fromkeys(cell for cell, _ in by_cell))
    ordered: dict[str, Run] = {}
    for where in sorted(by_cell, key=lambda where: cells.index(where[0])):
        runs = sorted(by_cell[where].values(), key=lambda run: (run.seed, run.lr, run.weight_decay))
        ordered |= {run.key: run for run in runs if run.key not in ordered}
    return list(ordered.values())


def missing_runs(claim: Claim, scale: Scale, store: Store) -> list[Run]:
    """The runs of `claim` that the store lacks, in the order of `runs_for`; every record that is there is checked."""
    return [run for run in runs_for([claim], scale) if store.get(run) is None]


def landscapes_for(claim: Claim, scale: Scale, store: Store) -> dict[Key, Landscape]:
    """The landscape of each cell and variant of `claim`, from exactly the points of its parts.

    Columns: lr, wd, seed, score (final test accuracy in percent, NaN where diverged), best (the largest over the
    epochs) and diverged. Raises `Missing` where a run is not in the store, `NotTrained` where the scale has none.
    """
    points = _points(claim, scale)
    found: dict[str, StoredRun | None] = {}
    for run in {p.run.key: p.run for of_cell in points.values() for p in of_cell}.values():
        found[run.key] = store.get(run)
    missing = Counter(
        _label(where) for where, of_cell in points.items() for key in {p.run.key for p in of_cell} if found[key] is None
    )
    if missing:
        raise Missing(sum(stored is not None for stored in found.values()), len(found), missing)
    return {where: _landscape(where, of_cell, found) for where, of_cell in points.items()}


def parts_at(claim: Claim, scale: Scale) -> tuple[Part, ...]:
    """The parts of `claim` that `scale` trains.

    A claim over both data sets is judged on the one that the scale has (`replicate.judging` says so in the verdict);
    anything else that the scale leaves out raises `NotTrained`.
    """
    trained = {dataset for dataset, _ in scale.data}
    kept = tuple(part for part in claim.parts if part.cell.dataset in trained)
    return kept or claim.parts


def _points(claim: Claim, scale: Scale) -> dict[Key, list[Point]]:
    """The points of each cell and variant, each once although grids overlap, in order of lr, weight decay, seed."""
    found: dict[Key, dict[tuple[float, float, int], Point]] = {}
    for part in parts_at(claim, scale):
        of_cell = found.setdefault((part.cell, part.variant), {})
        for point in scales.points(scale, part):
            before = of_cell.setdefault((point.lr, point.weight_decay, point.seed), point)
            if before.run.key != point.run.key:
                raise ValueError(
                    f"{claim.id}: expected one run at lr={point.lr:g} wd={point.weight_decay:g} seed={point.seed} of "
                    f"{_label((part.cell, part.variant))}, got {before.run.key} and {point.run.key}"
                )
    return {where: [of_cell[at] for at in sorted(of_cell)] for where, of_cell in found.items()}


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
    known = data.DATASETS.get(points[0].run.data.name)
    chance_pp = 100 / known.num_classes if known else 0.0
    return Landscape(where[0].arch, where[0].dataset, frame, chance_pp=chance_pp, synthetic=synthetic)


def _label(where: Key) -> str:
    cell, variant = where
    return cell.id if variant == "main" else f"{cell.id} {variant}"
