"""Verdict rates on cells drawn from trained landscapes, one row per kind of cell (`Drawn`) and quantity."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replicate.calibration import recording, trained_studies
from replicate.calibration.parallel import chunks, in_processes
from replicate.calibration.rates import Judged, Progress, errs, of_cell, place
from replicate.calibration.trained import FACTOR
from replicate.calibration.trained_studies import LAWS
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, REPLICATED
from replicate.paper.claim import Margin
from replicate.paper.registry import CLAIMS

QUANTITIES = ("slope", "rho")
SEED_COUNTS = (1, 2, 3, 5, 10, 20)
PAPERS = "0.1 η"
"""The paper's law, tried with all numbers of seeds and spacings; other laws are tried with those in `USUAL` only."""
EVERY = (1, 2, 3)
"""A cell has all weight decays of the dense grid, every second, or every third."""
USUAL = (5, 2)
"""Number of seeds and spacing for laws other than the paper's; spacing n: every n-th weight decay."""
LEAST_SEEDS = 20
"""Number of recorded seeds from which a landscape's optima count as known."""


@dataclass(frozen=True)
class Drawn:
    """A kind of cell: landscape, law, number of seeds, and spacing (`every` = 2: every second weight decay)."""

    landscape: str
    law: str
    seeds: int
    every: int

    @property
    def factor(self) -> float:
        """Ratio of neighbouring weight decays."""
        return FACTOR**self.every


@dataclass(frozen=True)
class TrainedRow:
    """Verdict rates (shares, 0 to 1) of one quantity over all cells of one kind; widths of a ratio are in ln."""

    landscape: str
    law: str
    seeds: int
    factor: float
    quantity: str
    cells: int
    replicated: float
    contradicted: float
    inconclusive: float
    right: float
    """Share replicated with the truth inside the margin, or contradicted with the truth outside."""
    wrong: float
    coverage: float
    width: float | None
    """Median width of the intervals; None: not bounded."""
    oracle_width: float
    """Interval width if the curve's shape were known: 3.92 standard deviations of `trained_studies.oracle_of`."""


def rates(
    names: Iterable[str], n: int, processes: int, report: Progress | None = None, kept: Path | None = None
) -> list[TrainedRow]:
    """Verdict rates over `n` cells of each kind, judged in `processes` processes; see `studies` for the kinds.

    `report(done, all)` is called after each kind. Results are cached in the folder `kept`, if given.
    """
    drawn = [study for name in names for study in studies(name)]
    parts = chunks(n)
    tasks = [(study, digest(study.landscape), *part) for study in drawn for part in parts]
    answers = in_processes(_judged, tasks, processes, kept, kind=list[Judged])
    rows: list[TrainedRow] = []
    for done, study in enumerate(drawn, start=1):
        cells = [one for _ in parts for one in next(answers)]
        rows += [_row(study, quantity, cells) for quantity in QUANTITIES]
        if report is not None:
            report(done, len(drawn))
    return rows


def studies(name: str) -> list[Drawn]:
    """The kinds of cells of the landscape `name`; none if fewer than `LEAST_SEEDS` of its seeds are recorded."""
    seeds = len({row.seed for row in recording.read(name).rows})
    if seeds < LEAST_SEEDS:
        return []
    of_paper = [Drawn(name, PAPERS, count, every) for count in SEED_COUNTS for every in EVERY if count <= seeds // 2]
    return of_paper + [Drawn(name, law, *USUAL) for law in LAWS if law != PAPERS]


def digest(name: str) -> str:
    """Digest of the recorded file of the landscape `name`, part of the cache's key so that new runs are judged anew."""
    return hashlib.sha256(recording.path_of(name).read_bytes()).hexdigest()[:16]


def _judged(task: tuple[Drawn, str, int, int]) -> list[Judged]:
    study, _, start, stop = task
    cells = (trained_studies.cell(study.landscape, study.law, study.seeds, study.every, i) for i in range(start, stop))
    return [of_cell(judge_sweep([cell])[0]) for cell in cells]


def _row(study: Drawn, quantity: str, cells: Sequence[Judged]) -> TrainedRow:
    margin = next(claim.margin for claim in CLAIMS if claim.quantity == quantity)
    truths = np.array([true_value(study.law, quantity, cell.informative) for cell in cells])
    outcomes = [cell.verdicts[quantity] for cell in cells]
    places = [where(study.law, quantity, cell.informative, margin) for cell in cells]
    ends = np.array([cell.intervals[quantity] for cell in cells], dtype=np.float64)  # None becomes NaN
    lows, highs = np.where(np.isnan(ends), (-np.inf, np.inf), ends).T
    covered = (lows <= truths + 1e-9) & (truths - 1e-9 <= highs)
    with np.errstate(divide="ignore"):
        widths = np.log(highs) - np.log(np.maximum(lows, 0)) if quantity == "rho" else highs - lows
    right = {"inside": REPLICATED, "outside": CONTRADICTED}
    width = float(np.median(widths))
    drawn = study.landscape, study.law, study.seeds, study.every
    oracle = np.std([trained_studies.oracle_of(*drawn, i, quantity) for i in range(len(cells))])
    return TrainedRow(
        study.landscape,
        study.law,
        study.seeds,
        round(study.factor, 2),
        quantity,
        len(cells),
        replicated=outcomes.count(REPLICATED) / len(cells),
        contradicted=outcomes.count(CONTRADICTED) / len(cells),
        inconclusive=outcomes.count(INCONCLUSIVE) / len(cells),
        right=float(np.mean([outcome == right.get(at) for outcome, at in zip(outcomes, places, strict=True)])),
        wrong=float(np.mean([errs(outcome, at) for outcome, at in zip(outcomes, places, strict=True)])),
        coverage=float(covered.mean()),
        width=width if math.isfinite(width) else None,
        oracle_width=2 * 1.96 * float(oracle),
    )


def where(law: str, quantity: str, lrs: Sequence[float], margin: Margin) -> str:
    """Where the truth over the learning rates `lrs` lies relative to `margin`: see `rates.place`."""
    return place(quantity, true_value(law, quantity, lrs), margin, (LAWS[law](lr) / lr for lr in lrs))


def true_value(law: str, quantity: str, lrs: Sequence[float]) -> float:
    """True value for a law over the learning rates `lrs`: the slope in ln-ln, or the geometric mean of the ratios."""
    best = np.array([LAWS[law](lr) for lr in lrs])
    if quantity == "slope":
        return float(np.polyfit(np.log(lrs), np.log(best), 1)[0])
    return float(np.exp(np.log(best / np.array(lrs)).mean()))
