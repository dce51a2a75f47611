"""A bracket in rounds: from what is known of one learning rate to the weight decays that it needs, and how it ended.

Weight decays lie on a lattice: at place k, λ · η · steps = 3^k, whatever the machine. What comes next is decided when
all runs that decide it are there, and by nothing else, so in which order they came, and what else is known, makes no
difference. The first seed explores. All others follow its places, surely, so they are asked for with it; three of them,
then all, may ask for more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np

FACTOR = 3
"""From a weight decay of the lattice to the next."""
LOOKS = (1, 3)
"""With how many seeds it is asked whether the bracket is wide enough, before it is asked with all."""
SURELY = 2.0
"""Standard errors by which accuracy has surely fallen, and below which there is nothing but guessing."""

Place = int | None
"""The exponent k of a weight decay on the lattice; None: no weight decay."""
Scores = Callable[[Place, int], float | None]
"""Accuracy in percent at a place with a seed, that of guessing where training diverged; None: not known yet."""


class End(str, Enum):
    """Why a bracket goes no further on one side."""

    FALLEN = "fallen"
    """Accuracy has surely fallen there."""
    FLAT = "flat"
    """None does as well as the best one, and as the smallest that was run: there is nothing between."""
    LIMIT = "limit"
    """A smaller one would not move the weights, with a larger one nothing is learnt, or nothing is learnt at all."""


@dataclass(frozen=True)
class Rounds:
    """The rule of a bracket, in places of the lattice."""

    start: tuple[int, ...] = (-1, 1)
    lowest: int = -4
    """Decay at 3^-4 takes less than a hundredth of the weights away over a training."""
    highest: int = 7

    def __post_init__(self) -> None:
        if not self.start or list(self.start) != sorted(set(self.start)):
            raise ValueError(f"start: expected ascending places, got {self.start}")
        if not self.lowest <= self.start[0] <= self.start[-1] <= self.highest:
            raise ValueError(f"start: expected places from {self.lowest} to {self.highest}, got {self.start}")

    def within(self, steps: int) -> Rounds:
        """The rule for trainings of `steps` steps: a decay that takes all of a weight at a step is beyond the limit."""
        highest = max((k for k in range(self.lowest, self.highest + 1) if at(k) < steps), default=self.lowest)
        start = tuple(k for k in self.start if k <= highest) or (highest,)
        return Rounds(start, self.lowest, highest)

    @property
    def places(self) -> range:
        """All that it may ask for."""
        return range(self.lowest, self.highest + 1)


RULE = Rounds()
"""That of every scale which does not say otherwise."""


@dataclass(frozen=True)
class Bracket:
    """What one learning rate needs, as far as it is known."""

    runs: tuple[tuple[Place, int], ...]
    """Place and seed of the runs of all rounds so far, seed by seed."""
    low: End | None
    """Why it goes no further down; None while that is not decided."""
    high: End | None

    @property
    def done(self) -> bool:
        """Whether the runs so far are all."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Look:
    """What is seen once a round is there."""

    low: End | None
    high: End | None
    more: frozenset[int]
    """The places of the next round; none where the bracket is wide and close enough."""


def at(place: int) -> float:
    """λ · η · steps at `place`."""
    return float(FACTOR**place) if place >= 0 else 1 / FACTOR**-place


def expand(rule: Rounds, seeds: Sequence[int], scores: Scores, tested: int, chance_pp: float) -> Bracket:
    """The runs that the bracket of one learning rate needs by what `scores` knows, for `seeds`, the explorer first.

    `tested`: images that an accuracy is taken on; `chance_pp`: that of guessing. At most every place of the rule, and
    none, with every seed: each round asks for a place that was not there, or for more seeds.
    """
    scores = cache(scores)  # a look at more seeds, or at one place more, asks for the others again
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
    """What the scores of all places, [seeds] each, say of the bracket, and what it lacks."""
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
    """Standard error of the difference between two means of the same seeds.

    That of the images tested on, or what the seeds themselves show where that is more and there are enough of them.
    """
    middle = (math.fsum(one) + math.fsum(other)) / (len(one) + len(other))
    sampling = math.sqrt(2) * _sampling_pp(middle, tested, len(one))
    if len(one) < 3:
        return sampling
    shown = float(np.std(np.subtract(one, other), ddof=1)) / math.sqrt(len(one))
    return max(sampling, shown)


def _sampling_pp(mean_pp: float, tested: int, seeds: int) -> float:
    """Standard error of a mean accuracy because the number of images that it is tested on is finite."""
    share = (mean_pp / 100 * tested + 1) / (tested + 2)  # an accuracy of 0 or 100 % is not known exactly either
    return 100 * math.sqrt(share * (1 - share) / (tested * seeds))
