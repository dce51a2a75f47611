"""Compares sweeps grown by the runs that `replicate judge --next` names with grids, on trained landscapes.

    python benchmarks/next_runs.py --cells 20

Each sweep begins with every fourth weight decay (a factor 6.6 apart) for two seeds, and grows by twelve runs a round,
to half as many runs as the full grid: every second weight decay (a factor 2.56) for five seeds. A run's result is that
of the recorded run with the nearest weight decay. A row shows the percentage of sweeps with the right decisive verdict,
by the full grid, by smaller grids (three seeds; or every fourth weight decay), and by the grown sweep, at its end and
at any time; the median number of runs at its first right verdict, as a share of the full grid's; and the number of
wrong verdicts in all rounds.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.calibration import trained_studies
from replicate.estimate import fits
from replicate.estimate.next_runs import next_runs
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, REPLICATED, Outcome
from replicate.landscape.landscape import Floats, Landscape

NAMES = ("mlp-digits-adamw", "mlp-digits-sgd", "convnext_t-digits-adamw", "swin_t-digits-adamw")
RIGHT: dict[str, dict[str, Outcome | None]] = {
    "0.1 η": {"slope": REPLICATED, "rho": REPLICATED},
    "constant": {"slope": CONTRADICTED, "rho": None},
    "1/η": {"slope": CONTRADICTED, "rho": CONTRADICTED},
}
"""Law → right verdict on each claim; None: not asked, because the true ratio crosses the margin's edge."""
ROUND = 12
FULL, FEWER_SEEDS, FEWER_WDS, FIRST = (2, 5), (2, 3), (4, 5), (4, 2)
"""(n, seeds): every n-th weight decay, and the number of seeds."""


@dataclass(frozen=True)
class World:
    """Results of all runs of a cell: a dense curve per learning rate, optima moved onto a law, seeds in an order."""

    name: str
    lrs: tuple[float, ...]
    x: tuple[Floats, ...]
    """ln(weight decay), [W] per learning rate."""
    scores: tuple[Floats, ...]
    """Scores, [W, S] per learning rate."""
    grid: tuple[Floats, ...]
    """The values of `x` from which grids are taken."""
    first: tuple[int, ...]
    """Index in `grid` at which each learning rate's grid begins."""

    def run(self, lr: float, wd: float, seed: int) -> tuple[float, float, int, float] | None:
        """The recorded run nearest to these values, as a row; None if the seed is not recorded."""
        i = int(np.abs(np.log(np.array(self.lrs) / lr)).argmin())
        row = int(np.abs(self.x[i] - math.log(wd)).argmin())
        if seed >= self.scores[i].shape[1]:
            return None
        return self.lrs[i], float(np.exp(self.x[i][row])), seed, float(self.scores[i][row, seed])

    def of_grid(self, every: int, seeds: int) -> list[tuple[float, float, int, float]]:
        rows = []
        for lr, grid, first in zip(self.lrs, self.grid, self.first, strict=True):
            rows += [self.run(lr, math.exp(x), seed) for x in grid[first % every :: every] for seed in range(seeds)]
        return [row for row in rows if row is not None]


def world(name: str, law: str, index: int) -> World:
    """The `index`-th world of a trained landscape; its random draws depend only on `name` and `index`."""
    rng = np.random.default_rng([index, *name.encode()])
    of_name = zip(trained_studies.curves(name), trained_studies.truths(name), strict=True)
    known = [(curve, true) for curve, true in of_name if true.known]
    order = rng.permutation(known[0][0].scores.shape[1])
    x, scores, grid = [], [], []
    for curve, true in known:
        shift = math.log(trained_studies.LAWS[law](curve.lr)) - true.place
        at, found = curve.with_finer()
        x.append(at + shift)
        scores.append(found[:, order])
        grid.append(curve.x + shift)
    lrs = tuple(curve.lr for curve, _ in known)
    first = tuple(int(rng.integers(4)) for _ in known)
    return World(f"{name}, {law}", lrs, tuple(x), tuple(scores), tuple(grid), first)


def landscape(name: str, rows: list[tuple[float, float, int, float]]) -> Landscape:
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score"])
    return Landscape(name, "digits", frame.assign(diverged=frame["score"].isna()), chance_pp=10.0)


def outcomes(name: str, rows: list[tuple[float, float, int, float]]) -> dict[str, Outcome]:
    (cell,) = judge_sweep([landscape(name, rows)])
    return {quantity: cell.outcomes[quantity] for quantity in ("slope", "rho")}


def grown(of: World, most: int) -> list[tuple[int, dict[str, Outcome]]]:
    """(Number of runs, verdicts) after each round of a sweep that grows to at most `most` runs."""
    rows = of.of_grid(*FIRST)
    found = [(len(rows), outcomes(of.name, rows))]
    while len(rows) + ROUND <= most:
        now = landscape(of.name, rows)
        plan = next_runs(now, fits.line(now), ROUND, np.random.default_rng(len(rows)))
        done = {row[:3] for row in rows}
        for wanted in plan.runs:
            seed = wanted.seed
            while (row := of.run(wanted.lr, wanted.wd, seed)) is not None and row[:3] in done:
                seed += 1
            if row is not None:
                rows.append(row)
                done.add(row[:3])
        if len(rows) == found[-1][0]:
            break
        found.append((len(rows), outcomes(of.name, rows)))
    return found


def tried(task: tuple[str, str, int]) -> dict[str, dict[str, float]]:
    name, law, index = task
    of = world(name, law, index)
    full = of.of_grid(*FULL)
    ways = {"full": full, "fewer seeds": of.of_grid(*FEWER_SEEDS), "fewer decays": of.of_grid(*FEWER_WDS)}
    half = len(full) // 2
    said = {way: outcomes(of.name, rows) for way, rows in ways.items()}
    steps = grown(of, half)
    out = {}
    for quantity, right in RIGHT[law].items():
        if right is None:
            continue
        at = next((n for n, found in steps if found[quantity] == right), math.nan)
        every = [found[quantity] for found in (*said.values(), *(found for _, found in steps))]
        out[quantity] = {
            **{way: float(found[quantity] == right) for way, found in said.items()},
            "grown": float(steps[-1][1][quantity] == right),
            "ever": float(not math.isnan(at)),
            "share": at / len(full),
            "wrong": sum(outcome not in (right, INCONCLUSIVE) for outcome in every),
            "first": len(of.of_grid(*FIRST)) / len(full),
            "seeds": len(ways["fewer seeds"]) / len(full),
            "decays": len(ways["fewer decays"]) / len(full),
        }
    return out


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cells", type=int, default=20)
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--landscape", action="append", choices=NAMES)
    arguments.add_argument("--law", action="append", choices=list(RIGHT))
    options = arguments.parse_args()
    head = ("landscape", "law", "claim", "full", "fewer seeds", "fewer decays", "grown", "ever", "at runs", "wrong")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for name in options.landscape or NAMES:
            for law in options.law or RIGHT:
                found = pool.map(tried, [(name, law, index) for index in range(options.cells)])
                for quantity in found[0]:
                    rows = pd.DataFrame([one[quantity] for one in found])
                    share = f"{rows['share'].median():.2f}" if rows["share"].notna().any() else "—"
                    ways = ("full", "fewer seeds", "fewer decays", "grown", "ever")
                    cells = [f"{100 * rows[way].mean():.0f}" for way in ways]
                    print(
                        f"| {name} | {law} | {quantity} | {' | '.join(cells)} | {share} | {rows['wrong'].sum():.0f} |"
                    )
                    sys.stdout.flush()
        print(f"runs, as a share of the full grid's: {rows[['first', 'seeds', 'decays']].mean().round(2).to_dict()}")


if __name__ == "__main__":
    main()
