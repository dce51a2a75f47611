"""A landscape: one cell's (a model's on a data set) accuracy for each learning rate, weight decay and seed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLUMNS = ("lr", "wd", "seed", "score", "diverged")
LARGEST, LEAST_SPREAD, MOST_SPREAD = 1e12, 1e-4, 1e9
"""Scores are rescaled (`Landscape.unit`) if one is above `LARGEST` or their range is below `LEAST_SPREAD` or above
`MOST_SPREAD`: squares of huge numbers overflow, and tiny differences look like rounding errors."""


@dataclass(frozen=True)
class Slice:
    """The runs of one learning rate, at W weight decays and S seeds.

    `wds`: [W], ascending, may begin with 0. `scores`: [W, S], NaN where a run is missing or diverged. `diverged`: [W,
    S], True where a run ended without a finite loss. `scores` and `noise_sd` are divided by `Landscape.unit`.
    """

    lr: float
    wds: Floats
    scores: Floats
    diverged: NDArray[np.bool_]
    chance_pp: float = 0.0
    noise_sd: float | None = None

    @property
    def equal(self) -> bool:
        """Whether at least three weight decays have scores and all scores are equal to the last digit."""
        known = np.isfinite(self.scores)
        return bool(known.any(axis=1).sum() >= 3 and np.ptp(self.scores[known]) == 0)


@dataclass(frozen=True)
class Landscape:
    """Scores of one cell: accuracy in percent, minus the loss, or another score; higher is always better.

    Raises ValueError for missing columns, repeated rows, accuracies that are not percentages, or `noise_sd` <= 0.
    """

    arch: str
    dataset: str
    frame: pd.DataFrame
    """Columns `lr`, `wd`, `seed`, `score`, `diverged`; one row per run; score is NaN where diverged."""
    metric: str = "accuracy"
    """`accuracy` (percent), `loss` (score is its negative), or `score` (any other score; higher is better)."""
    chance_pp: float = 0.0
    """Accuracy of guessing, percent; 0 if unknown."""
    synthetic: bool = False
    """True if any row is simulated; every report shows it."""
    noise_sd: float | None = None
    """Standard deviation of a score between seeds, in units of `score`, if known from another source; else None."""
    settings: tuple[tuple[str, str], ...] = ()
    """(Name, value) of further settings that all runs share, as in the file of runs."""
    steps: float | None = None
    """Optimiser steps of each run, if known."""

    def __post_init__(self) -> None:
        if self.noise_sd is not None and not (math.isfinite(self.noise_sd) and self.noise_sd > 0):
            raise ValueError(f"landscape {self.arch}-{self.dataset}: expected noise_sd above 0, got {self.noise_sd}")
        missing = [c for c in COLUMNS if c not in self.frame.columns]
        if missing:
            raise ValueError(f"landscape {self.arch}-{self.dataset}: expected columns {COLUMNS}, missing {missing}")
        scores = self.frame["score"].to_numpy(dtype=np.float64)
        beyond = scores[np.isfinite(scores) & (np.abs(scores) > LARGEST)]
        if self.metric == "accuracy" and len(beyond):
            raise ValueError(
                f"landscape {self.arch}-{self.dataset}: expected accuracies in percent, got {beyond[0]:g}; for another "
                'score, set metric="score"'
            )
        repeated = self.frame.duplicated(["lr", "wd", "seed"])
        if repeated.any():
            row = self.frame[repeated].iloc[0]
            raise ValueError(
                f"landscape {self.arch}-{self.dataset}: expected one row per run, got lr={row.lr:g} wd={row.wd:g} "
                f"seed={row.seed} more than once; drop or average the repeats"
            )

    @property
    def seeds(self) -> tuple[Any, ...]:
        """The different seeds, ascending."""
        return tuple(sorted(self.frame["seed"].unique()))

    @cached_property
    def unit(self) -> float:
        """Number by which `slices` divides scores: 1 or, for huge or tiny scores, a power of two (free of rounding)."""
        scores = self.frame["score"].to_numpy(dtype=np.float64)
        scores = scores[np.isfinite(scores)]
        largest = float(np.abs(scores).max(initial=0.0))
        if self.metric == "accuracy" or largest == 0:
            return 1.0
        top = math.frexp(largest)[1]
        spread = float(
            np.ptp(np.ldexp(scores, -top))
        )  # relative to the largest score, as the plain spread may overflow
        if spread == 0 or (largest <= LARGEST and LEAST_SPREAD <= math.ldexp(spread, top) <= MOST_SPREAD):
            return 1.0 if largest <= LARGEST else _power_of_two(top)
        return _power_of_two(top + math.frexp(spread)[1])

    @cached_property
    def digest(self) -> bytes:
        """A hash of the rows that does not depend on their order."""
        rows = self.frame[list(COLUMNS)].sort_values(["lr", "wd", "seed"])
        return hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).digest()

    def slices(self) -> list[Slice]:
        """One `Slice` per learning rate, ascending; the seed axis is the same in all of them."""
        # NumPy is much faster than a group-by here, and this is called often.
        lrs = self.frame["lr"].to_numpy(dtype=np.float64)
        wds = self.frame["wd"].to_numpy(dtype=np.float64)
        score = self.frame["score"].to_numpy(dtype=np.float64) / self.unit
        noise_sd = None if self.noise_sd is None else self.noise_sd / self.unit
        lost = self.frame["diverged"].to_numpy(dtype=bool)
        seeds, column = np.unique(self.frame["seed"].to_numpy(), return_inverse=True)
        out = []
        for lr in np.unique(lrs):
            rows = np.nonzero(lrs == lr)[0]
            levels, row = np.unique(wds[rows], return_inverse=True)
            scores = np.full((len(levels), len(seeds)), np.nan)
            diverged = np.zeros((len(levels), len(seeds)), dtype=bool)
            scores[row, column[rows]] = score[rows]
            diverged[row, column[rows]] = lost[rows]
            scores[diverged] = np.nan
            out.append(Slice(float(lr), levels, scores, diverged, self.chance_pp, noise_sd))
        return out


def _power_of_two(exponent: int) -> float:
    """2 ** `exponent`, or the nearest power of two that is a float of full precision."""
    return math.ldexp(1.0, min(max(exponent, -1021), 1023))
