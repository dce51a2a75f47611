"""The points (learning rate, weight decay, seed) that one grid of a claim needs, given the results so far.

A fixed grid always has the same points. An adaptive bracket chooses weight decays in rounds: it has the points of its
rounds so far, and adds a round once all their results are known. Training missing runs until none is left completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from replicate.data import catalogue
from replicate.paper.claim import Part
from replicate.runs import bracket, scales
from replicate.runs.bracket import Bracket, Place, Rounds
from replicate.runs.result import Result
from replicate.runs.run import Point, Run
from replicate.runs.scales import Scale

Known = Callable[[Run], Result | None]
"""Run → its result; None if it has none yet."""


def nothing(run: Run) -> None:
    """The `Known` of an empty store: no run has a result."""


def points(scale: Scale, part: Part, known: Known = nothing) -> list[Point]:
    """The distinct points that `part` needs, given the results `known`, sorted by learning rate, weight decay, seed.

    Raises `NotTrained` if the scale does not train the part.
    """
    if not _in_rounds(scale, part):
        return scales.points(scale, part)
    return _sorted(rate.points[run] for rate in _rates(scale, part) for run in rate.bracket(known).runs)


def possible(scale: Scale, part: Part, known: Known = nothing) -> list[Point]:
    """As `points`, and every point that an adaptive bracket may still add until it is finished."""
    if not _in_rounds(scale, part):
        return scales.points(scale, part)
    found: list[Point] = []
    for rate in _rates(scale, part):
        so_far = rate.bracket(known)
        found += [rate.points[run] for run in so_far.runs] if so_far.done else rate.points.values()
    return _sorted(found)


@dataclass(frozen=True)
class _Rate:
    """The adaptive bracket of a part at one learning rate: what `bracket.expand` needs, and the points."""

    lr: float
    rule: Rounds
    seeds: tuple[int, ...]
    tested: int
    chance_pp: float
    points: Mapping[tuple[Place, int], Point]
    """(Place, seed) → point, for every seed and every place of the rule."""

    def bracket(self, known: Known) -> Bracket:
        def score(place: Place, seed: int) -> float | None:
            found = known(self.points[place, seed].run)
            return None if found is None else found.accuracy_pp

        return bracket.expand(self.rule, self.seeds, score, self.tested, self.chance_pp)


def _in_rounds(scale: Scale, part: Part) -> bool:
    return part.grid == "bracket" and isinstance(scale.bracket, Rounds)


@lru_cache(maxsize=1024)
def _rates(scale: Scale, part: Part) -> tuple[_Rate, ...]:
    assert isinstance(scale.bracket, Rounds)
    data, seeds = dict(scale.data), scale.protocol(part.cell.dataset).seeds
    found = []
    for lr in dict.fromkeys(p.lr for p in scales.points(scale, part)):
        moved, steps = scales.moves(scale, part, lr)
        rule = scale.bracket.within(steps)
        decays: dict[Place, float] = {None: 0.0, **{k: scales.rounded(bracket.at(k) / moved) for k in rule.places}}
        of_rate = {
            (place, seed): scales.as_point(scale, scales.make_run(scale, part.cell, part.variant, lr, wd, seed))
            for place, wd in decays.items()
            for seed in seeds
        }
        spec = data[part.cell.dataset]
        chance_pp = 100 / catalogue.info(spec).num_classes
        found.append(_Rate(lr, rule, seeds, catalogue.test_size(spec), chance_pp, of_rate))
    return tuple(found)


def _sorted(found: Iterable[Point]) -> list[Point]:
    distinct = {(p.lr, p.weight_decay, p.seed): p for p in found}
    return [distinct[where] for where in sorted(distinct)]
