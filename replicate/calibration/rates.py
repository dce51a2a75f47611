"""Verdict rates on simulated landscapes, judged as by `replicate judge`, per study (kind of landscape) and quantity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from replicate.calibration.parallel import chunks, in_processes
from replicate.calibration.studies import Study, has_straight_line, identified, true_values
from replicate.estimate import details
from replicate.estimate.estimate import Estimate, finite
from replicate.judging.secondary import IN_LOGARITHMS
from replicate.judging.sweep_verdicts import QUANTITY_OF, JudgedCell, judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, REPLICATED
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import draw
from replicate.paper.claim import Margin
from replicate.paper.protocol import LRS

Progress = Callable[[int, int], None]
"""Called with the number of studies done and the number of all studies."""


@dataclass(frozen=True)
class Rate:
    """Verdict rates (shares, 0 to 1) of the rule for one quantity over all landscapes of one study."""

    study: Study
    quantity: str
    truth: float
    margin: Margin
    n: int
    replicated: float
    contradicted: float
    inconclusive: float
    wrong: float
    """Share of wrong verdicts: replicated although the truth is outside the margin by more than a tenth of the margin's
    width, or contradicted although it is inside. If a whole range of values is true: see `wrong_of_sets`. NaN if no
    true value exists; then every decisive verdict is wrong."""
    decisive: float
    coverage: float
    """Share of intervals that contain the true value for the learning rates that were used; NaN if none exists."""
    width: float
    """Median width of the interval (of `rho`: in ln), inf if not bounded."""


def place(quantity: str, truth: float, margin: Margin, ratios: Iterable[float] = ()) -> str:
    """Where `truth` lies: `inside` the margin, `outside` it by more than a tenth of its width, or `near` in between.

    `ratios`: the true ratio at each learning rate. `rho` is their mean; it is also `outside` if any one of them is.
    """
    if quantity == "rho" and any(place(quantity, ratio, margin) == "outside" for ratio in ratios):
        return "outside"
    low, high = margin.low, margin.high
    if low <= truth <= high:
        return "inside"
    if quantity in IN_LOGARITHMS:
        truth, low, high = math.log(truth), math.log(low), math.log(high)
    width = high - low if math.isfinite(high - low) else abs(low if math.isfinite(low) else high)
    beyond = max(low - truth, truth - high)
    return "outside" if beyond > width / 10 else "near"


def where(study: Study, quantity: str, truth: float, margin: Margin, lrs: Sequence[float]) -> str:
    """Where the truth over the learning rates `lrs` lies relative to `margin`: see `place`."""
    return place(quantity, truth, margin, (study.truth.best_wd(lr) / lr for lr in lrs))


def errs(outcome: str, where: str) -> bool:
    """Whether `outcome` is decisive and wrong for a truth that lies `where` (see `place`)."""
    return (outcome, where) in ((CONTRADICTED, "inside"), (REPLICATED, "outside"))


def wrong_of_sets(
    quantity: str, allowed: tuple[float, float], margin: Margin, replicated: float, contradicted: float
) -> float:
    """Share of wrong verdicts if the truth is a range: all values in [low, high] = `allowed` are equally true.

    `replicated`, `contradicted`: shares of these verdicts. Contradicted is wrong if any of the values lies inside the
    margin, replicated if any lies outside it.
    """
    low, high = allowed
    if low > high:
        return replicated
    meets = low <= margin.high and high >= margin.low
    leaves = "outside" in (place(quantity, low, margin), place(quantity, high, margin))
    return replicated * leaves + contradicted * meets


def informative(ratio: Estimate) -> tuple[float, ...]:
    """Learning rates over which the ratio is averaged: those with a bounded optimum; all if fewer than two have one."""
    rows = ratio.details.per_lr if isinstance(ratio.details, details.Ratio) else ()
    closed = tuple(row.lr for row in rows if row.low is not None and row.high is not None)
    return closed if len(closed) >= 2 else LRS


def landscape(study: Study, index: int) -> Landscape:
    """The `index`-th landscape of `study`; its random numbers depend on `study` and `index` alone."""
    rng = np.random.default_rng([index, study.seeds, int(1000 * study.truth.slope) + 5000])
    above = None
    if study.diverged_factor is not None:
        above = study.diverged_factor * study.truth.best_wd(1e-2) * 1e-2
    return draw(study.truth, study.wds, rng, seeds=range(study.seeds), missing=study.missing, diverged_above=above)


@dataclass(frozen=True)
class Judged:
    """Verdicts and intervals of one landscape, by quantity."""

    verdicts: dict[str, str]
    intervals: dict[str, tuple[float | None, float | None]]
    """None: not bounded."""
    informative: tuple[float, ...]
    """The learning rates over which the ratio is averaged."""


def of_cell(cell: JudgedCell) -> Judged:
    """The verdicts, the intervals and the `informative` learning rates of a judged cell."""
    intervals = {name: (finite(found.low), finite(found.high)) for name, found in cell.measured.items()}
    outcomes = {name: outcome.value for name, outcome in cell.outcomes.items()}
    return Judged(outcomes, intervals, informative(cell.measured["rho"]))


def _judged(task: tuple[Study, int, int]) -> list[Judged]:
    """The judged landscapes of a study with indices in [start, stop)."""
    study, start, stop = task
    return [of_cell(judge_sweep([landscape(study, i)])[0]) for i in range(start, stop)]


def rates(
    found: Sequence[Study], n: int, processes: int, report: Progress | None = None, kept: Path | None = None
) -> list[Rate]:
    """Verdict rates over `n` landscapes of every study, judged in `processes` processes.

    `report(done, all)` is called after each study. Results are cached in the folder `kept`, if given.
    """
    parts = chunks(n)
    answers = in_processes(
        _judged, [(study, *part) for study in found for part in parts], processes, kept, kind=list[Judged]
    )
    out: list[Rate] = []
    for done, study in enumerate(found, start=1):
        cells = [one for _ in parts for one in next(answers)]
        out += summaries(study, cells)
        if report is not None:
            report(done, len(found))
    return out


def summaries(study: Study, cells: Sequence[Judged]) -> list[Rate]:
    """The rates of each quantity that was judged in `cells`, the landscapes of `study`."""
    from replicate.paper.registry import CLAIMS

    truths = true_values(study)
    lrs = [tuple(c.informative) for c in cells]
    own_truths = [true_values(study, own) for own in lrs]
    out = []
    for name, quantity in QUANTITY_OF.items():
        asked = [c.verdicts.get(name, NOT_RUN) != NOT_RUN for c in cells]
        judged = list(compress(cells, asked))
        if not judged or (quantity == "gap_pp" and study.grid != "paper+line"):
            continue
        margin = next(c.margin for c in CLAIMS if c.quantity == quantity)
        outcomes = [c.verdicts[name] for c in judged]
        share = {o: outcomes.count(o) / len(judged) for o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)}
        ends = np.array([c.intervals[name] for c in judged], dtype=np.float64)  # None becomes NaN
        lows, highs = np.where(np.isnan(ends), (-np.inf, np.inf), ends).T
        truth = truths[quantity]
        wrong = coverage = math.nan
        if (allowed := identified(study, quantity)) is not None:
            wrong = wrong_of_sets(quantity, allowed, margin, share[REPLICATED], share[CONTRADICTED])
        elif not math.isnan(truth):
            own = np.array([t[quantity] for t in compress(own_truths, asked)])
            places = [where(study, quantity, t, margin, x) for t, x in zip(own, compress(lrs, asked), strict=True)]
            wrong = float(np.mean([errs(o, p) for o, p in zip(outcomes, places, strict=True)]))
            defined = {"intercept_share": has_straight_line(study), "slope": study.truth.is_power_law}
            if math.isfinite(truth) and defined.get(quantity, True):
                coverage = float(np.mean((lows <= own + 1e-9) & (own - 1e-9 <= highs)))
        if quantity == "rho":
            with np.errstate(divide="ignore"):
                lows, highs = np.log(np.maximum(lows, 0)), np.log(highs)
        out.append(
            Rate(
                study,
                quantity,
                truth=truth,
                margin=margin,
                n=len(judged),
                **share,
                wrong=wrong,
                decisive=share[REPLICATED] + share[CONTRADICTED],
                coverage=coverage,
                width=float(np.median(highs - lows)),
            )
        )
    return out
