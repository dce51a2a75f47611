"""Lists the runs that claims need at a scale, and the points (learning rate, weight decay, seed) that they measure.

An adaptive bracket needs more runs as results arrive (`replicate.runs.rounds`). Without results, the functions return
the runs that are needed whatever the results are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from replicate.paper.cells import Cell
from replicate.paper.claim import Claim, Part
from replicate.paper.registry import CLAIMS
from replicate.runs import rounds
from replicate.runs.rounds import Known, nothing
from replicate.runs.run import Point, Run
from replicate.runs.scales import NotTrained, Scale

Key = tuple[Cell, str]
"""A cell (architecture on a data set) and a variant of its training (e.g. `sgd`), whose runs form one landscape."""
STAGE_SEEDS = 3
"""The first seeds of every cell, trained before any further seed: enough for a provisional verdict."""


def split(claims: Iterable[Claim], scale: Scale) -> tuple[list[Claim], dict[str, str]]:
    """The claims that can be judged at `scale`, and id → reason for the claims that cannot be."""
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


def first_seeds_of(claim: Claim, scale: Scale, count: int) -> dict[Key, tuple[int, ...]]:
    """(Cell, variant) → first `count` seeds, for each cell and variant that `claim` needs."""
    return {(part.cell, part.variant): first_seeds(scale, part.cell, count) for part in parts_at(claim, scale)}


def runs_for(claims: Iterable[Claim], scale: Scale, known: Known = nothing, seeds: int | None = None) -> list[Run]:
    """The distinct runs that `claims` need: the first `STAGE_SEEDS` seeds of all cells, then all further seeds.

    Both groups are sorted by cell, in the order of the claims, then by seed. `known`: run → its result, if any:
    adaptive brackets choose further runs from these. `seeds`: use only the first `seeds` seeds of each cell, for
    brackets too. Raises `NotTrained` if the scale does not train a part of a claim (`split` finds such claims).
    """
    found = (
        points_of(claim, scale, known, None if seeds is None else first_seeds_of(claim, scale, seeds))
        for claim in claims
    )
    return _in_order(found, scale)


def runs_at(scale: Scale, known: Known = nothing) -> list[Run]:
    """The distinct runs of all claims that can be judged at `scale`, in the order of `runs_for`."""
    return runs_for(split(CLAIMS, scale)[0], scale, known)


def possible_runs(scale: Scale, known: Known = nothing) -> list[Run]:
    """The runs of `runs_at`, and all that adaptive choices of weight decay may still add."""
    claims, _ = split(CLAIMS, scale)
    found = (_points_of(claim, scale, lambda part: rounds.possible(scale, part, known)) for claim in claims)
    return _in_order(found, scale)


def in_rounds(claims: Collection[Claim], scale: Scale, known: Known, seeds: int | None = None) -> Iterator[list[Run]]:
    """The runs that `claims` need, round by round: each list has the runs of all rounds so far.

    The caller trains the missing runs before it asks for the next list. The lists end when the results
    ask for no further runs. Arguments as for `runs_for`.
    """
    before = None
    while (runs := runs_for(claims, scale, known, seeds)) != before:
        yield runs
        before = runs


def _in_order(points: Iterable[dict[Key, list[Point]]], scale: Scale) -> list[Run]:
    """The distinct runs of `points`, which has one dict for each claim, in the order that `runs_for` describes."""
    by_cell: dict[Key, dict[str, Run]] = {}
    for of_claim in points:
        for where, of_cell in of_claim.items():
            by_cell.setdefault(where, {}).update({p.run.key: p.run for p in of_cell})
    cells = list(dict.fromkeys(cell for cell, _ in by_cell))
    ordered: dict[str, Run] = {}
    in_order = sorted(by_cell, key=lambda where: cells.index(where[0]))
    for stage in (True, False):
        for where in in_order:
            first = first_seeds(scale, where[0])
            runs = [run for run in by_cell[where].values() if (run.seed in first) == stage]
            runs.sort(key=lambda run: (run.seed, run.lr, run.weight_decay))
            ordered |= {run.key: run for run in runs if run.key not in ordered}
    return list(ordered.values())


def parts_at(claim: Claim, scale: Scale) -> tuple[Part, ...]:
    """The parts of `claim` (cell, variant, grid) whose data set `scale` trains; all parts if it trains none of them.

    A claim about two data sets is judged on the single one that the scale trains, and the verdict says so
    (`replicate.judging.store_verdicts`).
    """
    trained = {dataset for dataset, _ in scale.data}
    kept = tuple(part for part in claim.parts if part.cell.dataset in trained)
    return kept or claim.parts


def points_of(
    claim: Claim, scale: Scale, known: Known = nothing, seeds: Mapping[Key, Collection[int]] | None = None
) -> dict[Key, list[Point]]:
    """(Cell, variant) → its points, without duplicates, in ascending order of learning rate, weight decay, seed.

    `seeds`: (cell, variant) → the seeds to use; None for all.
    """
    if seeds is None:
        return _points_of(claim, scale, lambda part: rounds.points(scale, part, known))

    def of_seeds(part: Part) -> list[Point]:
        chosen = seeds[part.cell, part.variant]
        return [
            p
            for p in rounds.points(scale, part, lambda run: known(run) if run.seed in chosen else None)
            if p.seed in chosen
        ]

    return _points_of(claim, scale, of_seeds)


def _points_of(claim: Claim, scale: Scale, points: Callable[[Part], Iterable[Point]]) -> dict[Key, list[Point]]:
    found: dict[Key, dict[tuple[float, float, int], Point]] = {}
    for part in parts_at(claim, scale):
        of_cell = found.setdefault((part.cell, part.variant), {})
        for point in points(part):
            before = of_cell.setdefault((point.lr, point.weight_decay, point.seed), point)
            if before.run.key != point.run.key:
                raise ValueError(
                    f"{claim.id}: expected one run at lr={point.lr:g} wd={point.weight_decay:g} seed={point.seed} of "
                    f"{label((part.cell, part.variant))}, got two: {before.run.key} and {point.run.key}"
                )
    return {where: [of_cell[at] for at in sorted(of_cell)] for where, of_cell in found.items()}


def label(where: Key) -> str:
    """`resnet50-cifar100`, or `resnet50-cifar100 sgd` for a variant other than `main`."""
    cell, variant = where
    return cell.id if variant == "main" else f"{cell.id} {variant}"
