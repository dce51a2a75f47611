"""Landscapes from numbers that stand in a test, and the grids that the claims use together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from replicate.landscape.landscape import Landscape, Slice
from replicate.landscape.synthetic import Grid, Truth, bracket_grid, draw, paper_grid, ratio_grid
from replicate.paper.protocol import LRS, RHO

LRS_3 = (1e-4, 1e-3, 1e-2)


def sweep(
    scores: Mapping[float, Mapping[float, ArrayLike]], metric: str = "accuracy", arch: str = "a", dataset: str = "d"
) -> Landscape:
    """{lr: {wd: score of each seed}} as a landscape; a NaN is a run that was not made, -inf one that diverged."""
    rows = [
        (lr, wd, seed, np.nan if np.isinf(score) else float(score), bool(np.isinf(score)))
        for lr, by_wd in scores.items()
        for wd, by_seed in by_wd.items()
        for seed, score in enumerate(np.atleast_1d(by_seed))
        if not np.isnan(score)
    ]
    return Landscape(arch, dataset, pd.DataFrame(rows, columns=["lr", "wd", "seed", "score", "diverged"]), metric)


def one_slice(wds: Sequence[float], scores: ArrayLike, lr: float = 1e-3) -> Slice:
    """`scores` [W, S] at `wds`, none diverged."""
    table = np.asarray(scores, dtype=np.float64)
    return Slice(lr, np.asarray(wds, dtype=np.float64), table, np.zeros(table.shape, dtype=bool))


def changed(landscape: Landscape, frame: pd.DataFrame) -> Landscape:
    """`landscape` with other rows."""
    return replace(landscape, frame=frame)


def rescaled(
    landscape: Landscape, lr: float = 1.0, wd: float = 1.0, score: float = 1.0, shift: float = 0.0
) -> Landscape:
    """`landscape` in other units: each column multiplied, `shift` added to the scores."""
    f = landscape.frame
    return changed(landscape, f.assign(lr=f["lr"] * lr, wd=f["wd"] * wd, score=f["score"] * score + shift))


def together(*grids: Grid) -> Grid:
    """The union of `grids`."""
    return lambda lr: tuple(sorted({wd for grid in grids for wd in grid(lr)}))


def unit_grid(lr: float) -> Sequence[float]:
    """The claimed weight decay alone."""
    return (float(f"{RHO * lr:.3g}"),)


def optimum_grid(truth: Truth) -> Grid:
    """What the claims about the optimum train: the paper's grid, Table 2's and a bracket of the true optimum."""
    return together(paper_grid, ratio_grid, bracket_grid(truth))


def drawn(truth: Truth, seed: int, n_seeds: int = 3, grid: Grid | None = None, lrs: Sequence[float] = LRS) -> Landscape:
    """A landscape of `truth`, by default on a bracket of its optimum."""
    return draw(truth, grid or bracket_grid(truth), np.random.default_rng(seed), seeds=range(n_seeds), lrs=lrs)
