"""Which runs a claim needs: its parts at a scale, their points, and the distinct runs that measure them.

For an adaptive bracket that depends on the results so far (`replicate.runs.rounds`). Without results, these are the
runs that are needed in any case.
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
"""A cell and the variant of its training, which together have one landscape."""
STAGE_SEEDS = 3
"""This many seeds of every cell are trained before any others: enough for a provisional verdict."""


def split(claims: Iterable[Claim], scale: Scale) -> tuple[list[Claim], dict[str, str]]:
    """The claims that can be judged at `scale`, and id → reason for those that cannot."""
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
    """(Cell, variant) → first `count` seeds, for all that `claim` is about."""
    return {(part.cell, part.variant): first_seeds(scale, part.cell, count) for part in parts_at(claim, scale)}


def runs_for(claims: Iterable[Claim], scale: Scale, known: Known = nothing, seeds: int | None = None) -> list[Run]:
    """The distinct runs that `claims` need: those of the first `STAGE_SEEDS` seeds of all cells, then the others.

    Each stage goes cell by cell, in the order of the claims, and there seed by seed. `known`: run → result; an adaptive
    bracket asks for more once all its runs so far are known. `seeds`: only this many of the first seeds of each cell,
    with brackets as if there were no others. Raises `NotTrained` if the scale leaves out a part; see `split`.
    """
    found = (
        points_of(claim, scale, known, None if seeds is None else first_seeds_of(claim, scale, seeds))
        for claim in claims
    )
    return _in_order(found, scale)


def runs_at(scale: Scale, known: Known = nothing) -> list[Run]:
    """The distinct runs of all claims that can be judged at `scale`; see `runs_for`."""
    return runs_for(split(CLAIMS, scale)[0], scale, known)


def possible_runs(scale: Scale, known: Known = nothing) -> list[Run]:
    """As `runs_at`, with all runs that adaptive brackets may still ask for."""
    claims, _ = split(CLAIMS, scale)
    found = (_points_of(claim, scale, lambda part: rounds.possible(scale, part, known)) for claim in claims)
    return _in_order(found, scale)


def in_rounds(claims: Collection[Claim], scale: Scale, known: Known, seeds: int | None = None) -> Iterator[list[Run]]:
    """The runs that `claims` need, round by round: each list has those of all rounds so far.

    The caller trains the missing ones before it asks for the next list; ends when nothing new is needed. Arguments as
    for `runs_for`.
    """
    before = None
    while (runs := runs_for(claims, scale, known, seeds)) != before:
        yield runs
        before = runs


def _in_order(points: Iterable[dict[Key, list[Point]]], scale: Scale) -> list[Run]:
    """The distinct runs of some claims' points, in the order of `runs_for`."""
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
    """The parts of `claim` that `scale` trains.

    A claim over both data sets is judged on the one that the scale has, and the verdict says so
    (`replicate.judging.store_verdicts`); any other part that the scale leaves out raises `NotTrained`.
    """
    trained = {dataset for dataset, _ in scale.data}
    kept = tuple(part for part in claim.parts if part.cell.dataset in trained)
    return kept or claim.parts


def points_of(
    claim: Claim, scale: Scale, known: Known = nothing, seeds: Mapping[Key, Collection[int]] | None = None
) -> dict[Key, list[Point]]:
    """(Cell, variant) → points, each once although grids overlap, by learning rate, weight decay, seed.

    `seeds`: (cell, variant) → the only seeds to consider.
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
                    f"{label((part.cell, part.variant))}, got {before.run.key} and {point.run.key}"
                )
    return {where: [of_cell[at] for at in sorted(of_cell)] for where, of_cell in found.items()}


def label(where: Key) -> str:
    """`resnet50-cifar100`, or `resnet50-cifar100 sgd` for a variant other than `main`."""
    cell, variant = where
    return cell.id if variant == "main" else f"{cell.id} {variant}"
