"""The adaptive bracket: which weight decays to try next at one learning rate η, given the results so far.

Weight decays are powers of 3 apart: the *place* k is the weight decay λ with λ · η · steps = 3^k. Places are added in
rounds. Each round is chosen from the results of all earlier rounds, once all are known, so the order in which results
arrive does not matter. Every place is run with all seeds, but at first only the first seed's results decide which
places to add. When they ask for no more, the mean over the first three seeds decides, then the mean over all seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np

FACTOR = 3
"""Ratio of neighbouring weight decays on the lattice."""
LOOKS = (1, 3)
"""Numbers of seeds whose mean decides which weight decays to add: of 1 seed, then of 3, and in the end of all seeds."""
SURELY = 2.0
"""Standard errors by which an accuracy must be below the best to count as fallen, or above guessing as learnt."""

Place = int | None
"""The exponent k of a weight decay on the lattice; None is weight decay 0."""
Scores = Callable[[Place, int], float | None]
"""(Place, seed) → accuracy in percent; for a diverged run, the accuracy of guessing; None if not known yet."""


class End(str, Enum):
    """Why a bracket is extended no further on one side."""

    FALLEN = "fallen"
    """On this side, accuracy falls below the best by more than `SURELY` standard errors."""
    FLAT = "flat"
    """Neither weight decay 0 nor the smallest positive one tried falls below the best: none in between needs a run."""
    LIMIT = "limit"
    """The lowest or highest place allowed by `Rounds` is reached, or no weight decay is more accurate than guessing."""


@dataclass(frozen=True)
class Rounds:
    """The rule of a bracket: the weight decays, as places k, of its first round, and the lowest and highest to try."""

    start: tuple[int, ...] = (-1, 1)
    lowest: int = -4
    """The smallest weight decay to try: at place -4 it shrinks the weights by about 1 % over a training."""
    highest: int = 7

    def __post_init__(self) -> None:
        if not self.start or list(self.start) != sorted(set(self.start)):
            raise ValueError(f"start: expected ascending exponents, got {self.start}")
        if not self.lowest <= self.start[0] <= self.start[-1] <= self.highest:
            raise ValueError(f"start: expected exponents from {self.lowest} to {self.highest}, got {self.start}")

    def within(self, steps: int) -> Rounds:
        """This rule without the weight decays that would shrink weights to 0 in a single one of `steps` steps."""
        highest = max((k for k in range(self.lowest, self.highest + 1) if at(k) < steps), default=self.lowest)
        start = tuple(k for k in self.start if k <= highest) or (highest,)
        return Rounds(start, self.lowest, highest)

    @property
    def places(self) -> range:
        """All places that a bracket under this rule may have."""
        return range(self.lowest, self.highest + 1)


RULE = Rounds()
"""The rule of brackets at a scale that sets no other."""


@dataclass(frozen=True)
class Bracket:
    """The runs that one learning rate needs, given the results so far."""

    runs: tuple[tuple[Place, int], ...]
    """(Place, seed) of the runs of all rounds so far, seed by seed."""
    low: End | None
    """Why the bracket stops at its low end; None while it may still be extended. `high` likewise."""
    high: End | None

    @property
    def done(self) -> bool:
        """Whether no further runs are needed."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Look:
    """What the scores so far decide: why the bracket stops at each end (None: it goes on), and which places to add."""

    low: End | None
    high: End | None
    more: frozenset[int]
    """The places of the next round; empty once both ends are decided and the places next to the best are tried."""


def at(place: int) -> float:
    """λ · η · steps at `place`: 3^place."""
    return float(FACTOR**place) if place >= 0 else 1 / FACTOR**-place


def expand(rule: Rounds, seeds: Sequence[int], scores: Scores, tested: int, chance_pp: float) -> Bracket:
    """The runs that the bracket of one learning rate needs, given the scores known so far.

    At most, these are runs at weight decay 0 and at all places that the rule allows, each with every seed.

    `seeds`: all are run, the first decides first; `scores`: accuracies in percent; `tested`: number of test images;
    `chance_pp`: the accuracy of guessing, in percent.
    """
    scores = cache(scores)  # each look asks again for the scores of the looks before it
    grid = set(rule.start)
    for count in [n for n in LOOKS if n < len(seeds)] + [len(seeds)]:
        while True:
            places: list[Place] = [None, *sorted(grid)]
            runs = tuple((place, seed) for seed in seeds for place in places)
            found = {place: [scores(place, seed) for seed in seeds[:count]] for place in places}
            table = {place: [score for score in of if score is not None] for place, of in found.items()}
            if sum(map(len, table.values())) < count * len(places):
                return Bracket(runs, None, None)
            seen = look(rule, table, tested, chance_pp)
            if not seen.more:
                break
            grid |= seen.more
    return Bracket(runs, seen.low, seen.high)


def look(rule: Rounds, table: Mapping[Place, Sequence[float]], tested: int, chance_pp: float) -> Look:
    """Decide which places to add. `table`: place → accuracies of its seeds, in percent; the rest as in `expand`."""
    grid = sorted(place for place in table if place is not None)
    mean = {place: math.fsum(of) / len(of) for place, of in table.items()}
    best = max(grid, key=lambda place: mean[place])
    top = best if mean[best] >= mean[None] else None

    def fallen(place: Place) -> bool:
        return mean[top] - mean[place] > SURELY * _error_pp(table[top], table[place], tested)

    if mean[top] - chance_pp <= SURELY * _sampling_pp(mean[top], tested, len(table[top])):
        return Look(End.LIMIT, End.LIMIT, frozenset())
    low = high = None
    if top is not None and any(fallen(place) for place in grid if place < best):
        low = End.FALLEN
    elif not fallen(None) and not fallen(grid[0]):
        low = End.FLAT
    elif grid[0] == rule.lowest:
        low = End.LIMIT
    if any(fallen(place) for place in grid if place > best):
        high = End.FALLEN
    elif grid[-1] == rule.highest:
        high = End.LIMIT
    more = {grid[0] - 1} if low is None else set()
    more |= {grid[-1] + 1} if high is None else set()
    if not more:
        if low is not End.FLAT and grid[0] < best:
            more.add(best - 1)
        if best < grid[-1]:
            more.add(best + 1)
    return Look(low, high, frozenset(more - set(grid)))


def _error_pp(one: Sequence[float], other: Sequence[float], tested: int) -> float:
    """Standard error, in pp, of the difference between two means over the same seeds.

    The error due to the finite number of test images; with three or more seeds, the error from their spread if larger.
    """
    middle = (math.fsum(one) + math.fsum(other)) / (len(one) + len(other))
    sampling = math.sqrt(2) * _sampling_pp(middle, tested, len(one))
    if len(one) < 3:
        return sampling
    shown = float(np.std(np.subtract(one, other), ddof=1)) / math.sqrt(len(one))
    return max(sampling, shown)


def _sampling_pp(mean_pp: float, tested: int, seeds: int) -> float:
    """Standard error, in pp, of a mean accuracy due to the finite number of test images."""
    share = (mean_pp / 100 * tested + 1) / (tested + 2)  # an accuracy of 0 or 100 % is not known exactly either
    return 100 * math.sqrt(share * (1 - share) / (tested * seeds))
