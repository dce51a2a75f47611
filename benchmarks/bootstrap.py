"""Times the paper's bootstrap of the ratio in ten cells: drawn in a loop over data frames, and enumerated.

    python benchmarks/bootstrap.py [--draws 200] [--rounds 5]

Every draw of the loop takes the same time, so some of the 10,000 are timed and scaled up; `--draws 10000` times all.
Times are processor time of one core. The intervals are compared as well: with more draws, the drawn interval converges
to the enumerated one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.estimate.published import published_fit
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import Truth, draw, paper_grid

CELLS = 10
DRAWS = 10_000


def one_draw(runs: pd.DataFrame, rng: np.random.Generator) -> float:
    """The ratio from resampled seeds, as a script with data frames computes it: mean, argmax, line through 0."""
    seeds = runs["seed"].unique()
    chosen = rng.choice(seeds, size=len(seeds), replace=True)
    resampled = pd.concat([runs[runs["seed"] == seed] for seed in chosen])
    lrs, best = [], []
    for lr in sorted(resampled["lr"].unique()):
        of_lr = resampled[resampled["lr"] == lr]
        lrs.append(lr)
        best.append(of_lr.groupby("wd")["score"].mean().idxmax())
    x, y = np.array(lrs), np.array(best)
    return float((x * y).sum() / (x * x).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200, help="timed draws per cell (default: 200)")
    parser.add_argument("--rounds", type=int, default=5, help="times to enumerate; shortest counts (default: 5)")
    asked = parser.parse_args()
    cells: list[Landscape] = [draw(Truth(rho=10.0), paper_grid, np.random.default_rng(i)) for i in range(CELLS)]
    rng = np.random.default_rng(0)

    published_fit(cells[0].slices())  # imports happen here, not in the timed loop
    ours = float("inf")
    for _ in range(asked.rounds):
        started = time.process_time()
        fits = [published_fit(cell.slices()) for cell in cells]
        ours = min(ours, time.process_time() - started)
    started = time.process_time()
    drawn = [np.array([one_draw(cell.frame, rng) for _ in range(asked.draws)]) for cell in cells]
    loop = (time.process_time() - started) * DRAWS / asked.draws

    print(f"ten cells, loop over data frames: {loop:.0f} s for {DRAWS:,} draws a cell ({asked.draws:,} timed)")
    print(f"ten cells, every distinct resample: {1000 * ours:.1f} ms, point estimates and p-values included")
    print(f"ratio: {loop / ours:,.0f}")
    for number, (fit, values) in enumerate(zip(fits, drawn, strict=True)):
        low, high = np.percentile(values, [2.5, 97.5])
        print(f"cell {number}: drawn [{low:.3g}, {high:.3g}], enumerated [{fit.rho_low:.3g}, {fit.rho_high:.3g}]")


if __name__ == "__main__":
    main()
