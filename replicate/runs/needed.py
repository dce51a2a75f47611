"""Which runs a claim needs: its parts at a scale, their points, and the distinct runs that measure them."""

from __future__ import annotations

from collections.abc import Iterable

from replicate.paper.cells import Cell
from replicate.paper.claim import Claim, Part
from replicate.paper.registry import CLAIMS
from replicate.runs import scales
from replicate.runs.run import Point, Run
from replicate.runs.scales import NotTrained, Scale

Key = tuple[Cell, str]
"""A cell and the variant of its training: what one landscape is of."""
STAGE_SEEDS = 3
"""Seeds of every cell that are trained before any further one: so many say something, if provisionally."""


def split(claims: Iterable[Claim], scale: Scale) -> tuple[list[Claim], dict[str, str]]:
    """The claims that `scale` trains all parts of, and by id the reason why not for the others."""
    trained, left_out = [], {}
    for claim in claims:
        try:
            points_of(claim, scale)
            trained.append(claim)
        except NotTrained as reason:
            left_out[claim.id] = str(reason)
    return trained, left_out


def first_seeds(scale: Scale, cell: Cell, count: int = STAGE_SEEDS) -> tuple[int, ...]:
    """The first `count` seeds of `cell`."""
    return scale.protocol(cell.dataset).seeds[:count]


def runs_for(claims: Iterable[Claim], scale: Scale, seeds: int | None = None) -> list[Run]:
    """The distinct runs that `claims` need: first `STAGE_SEEDS` seeds of all cells, then the others.

    Each stage goes cell by cell as the claims name them, and there seed by seed. `seeds`: of no more than so many
    seeds a cell. Raises `NotTrained` where the scale leaves out a part; see `split`.
    """
    by_cell: dict[Key, dict[str, Run]] = {}
    for claim in claims:
        for where, points in points_of(claim, scale).items():
            by_cell.setdefault(where, {}).update({p.run.key: p.run for p in points})
    cells = list(dict.fromkeys(cell for cell, _ in by_cell))
    ordered: dict[str, Run] = {}
    in_order = sorted(by_cell, key=lambda where: cells.index(where[0]))
    for stage in (True, False):
        for where in in_order:
            wanted, first = scale.protocol(where[0].dataset).seeds[:seeds], first_seeds(scale, where[0])
            of_cell = by_cell[where].values()
            runs = [run for run in of_cell if run.seed in wanted and (run.seed in first) == stage]
            runs.sort(key=lambda run: (run.seed, run.lr, run.weight_decay))
            ordered |= {run.key: run for run in runs if run.key not in ordered}
    return list(ordered.values())


def runs_at(scale: Scale) -> list[Run]:
    """The distinct runs of all claims that `scale` trains."""
    return runs_for(split(CLAIMS, scale)[0], scale)


def parts_at(claim: Claim, scale: Scale) -> tuple[Part, ...]:
    """The parts of `claim` that `scale` trains.

    A claim over both data sets is judged on the one that the scale has (`replicate.judging.store_verdicts` says so in
    the verdict); anything else that the scale leaves out raises `NotTrained`.
    """
    trained = {dataset for dataset, _ in scale.data}
    kept = tuple(part for part in claim.parts if part.cell.dataset in trained)
    return kept or claim.parts


def points_of(claim: Claim, scale: Scale) -> dict[Key, list[Point]]:
    """The points of each cell and variant, each once although grids overlap, in order of lr, weight decay, seed."""
    found: dict[Key, dict[tuple[float, float, int], Point]] = {}
    for part in parts_at(claim, scale):
        of_cell = found.setdefault((part.cell, part.variant), {})
        for point in scales.points(scale, part):
            before = of_cell.setdefault((point.lr, point.weight_decay, point.seed), point)
            if before.run.key != point.run.key:
                raise ValueError(
                    f"{claim.id}: expected one run at lr={point.lr:g} wd={point.weight_decay:g} seed={point.seed} of "
                    f"{label((part.cell, part.variant))}, got {before.run.key} and {point.run.key}"
                )
    return {where: [of_cell[at] for at in sorted(of_cell)] for where, of_cell in found.items()}


def label(where: Key) -> str:
    """`resnet50-cifar100`, or `resnet50-cifar100 sgd` of another variant than the main one."""
    cell, variant = where
    return cell.id if variant == "main" else f"{cell.id} {variant}"
