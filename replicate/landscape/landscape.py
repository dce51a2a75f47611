"""A landscape: the table of accuracy over (learning rate, weight decay, seed) of one cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLUMNS = ("lr", "wd", "seed", "score", "diverged")


@dataclass(frozen=True)
class Slice:
    """The runs of one learning rate.

    `wds`: [W], ascending, may begin with 0. `scores`: [W, S], NaN where a run is missing or diverged.
    `diverged`: [W, S], True where a run ended without a finite loss.
    """

    lr: float
    wds: Floats
    scores: Floats
    diverged: NDArray[np.bool_]
    chance_pp: float = 0.0
    noise_sd: float | None = None


@dataclass(frozen=True)
class Landscape:
    """Scores of one cell: accuracy in percent, minus the loss, or another score; higher is better each time."""

    arch: str
    dataset: str
    frame: pd.DataFrame
    """Columns `lr`, `wd`, `seed`, `score`, `diverged`; one row a run; score is NaN where diverged."""
    metric: str = "accuracy"
    """`accuracy` (percent), `loss` (score is its negative), or `score` (any other of which more is better)."""
    chance_pp: float = 0.0
    """Accuracy of guessing, percent; 0 where it is not known."""
    synthetic: bool = False
    """True where any row comes from a made landscape; every report shows it."""
    noise_sd: float | None = None
    """Standard deviation of a score between seeds, in units of `score`, where it is known from elsewhere; else None."""
    settings: tuple[tuple[str, str], ...] = ()
    """What else is known of its runs, the same of all: (name, value) as a file of runs has them."""
    steps: float | None = None
    """Optimiser steps of each run, where they are known."""

    def __post_init__(self) -> None:
        if self.noise_sd is not None and not (math.isfinite(self.noise_sd) and self.noise_sd > 0):
            raise ValueError(
                f"landscape {self.arch}-{self.dataset}: expected a noise above 0, got noise_sd={self.noise_sd}"
            )
        missing = [c for c in COLUMNS if c not in self.frame.columns]
        if missing:
            raise ValueError(f"landscape {self.arch}-{self.dataset}: expected columns {COLUMNS}, missing {missing}")
        repeated = self.frame.duplicated(["lr", "wd", "seed"])
        if repeated.any():
            row = self.frame[repeated].iloc[0]
            raise ValueError(
                f"landscape {self.arch}-{self.dataset}: expected one row a run, got lr={row.lr:g} wd={row.wd:g} "
                f"seed={row.seed} more than once; drop or average the repeats"
            )

    @property
    def seeds(self) -> tuple[Any, ...]:
        return tuple(sorted(self.frame["seed"].unique()))

    def slices(self) -> list[Slice]:
        """One `Slice` a learning rate, ascending; the seed axis is the same in all of them."""
        # numpy, not a group-by: judging a hundred sweeps calls this often enough to notice.
        lrs = self.frame["lr"].to_numpy(dtype=np.float64)
        wds = self.frame["wd"].to_numpy(dtype=np.float64)
        score = self.frame["score"].to_numpy(dtype=np.float64)
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
            out.append(Slice(float(lr), levels, scores, diverged, self.chance_pp, self.noise_sd))
        return out
