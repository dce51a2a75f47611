"""The accuracy gap between grid and search along the claimed line: is it within its bound, within noise, possible?"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from replicate.audit.finding import Check, Finding, from_checks, span
from replicate.audit.pipeline import expected_drop
from replicate.audit.reported import Floats, Reported, need

DRAWS = 20_000
LEVEL = 0.05
"""A reported gap counts as impossible if chance reaches it with a probability below this."""


def within_bound(paper: Reported) -> Finding:
    """`audit/within-0.3`: the bound stated for every cell's gap in accuracy compared with the largest gap stated."""
    largest = paper.figure("one-dim/max-gap")
    value = largest.value
    bounds = [paper.figure(name) for name in ("one-dim/gap", "one-dim/gap/abstract") if paper.states(name)]
    need(bounds, "a bound on the gap, the figure one-dim/gap")
    checks, found = [], f"{value.text} pp"
    for bound in bounds:
        printed, holds = f"within {bound.value.text} pp everywhere", value.low <= bound.value.value
        checks.append(Check("largest gap", printed, found, holds=holds, source=bound.source, decides=True))
    within = f"within {bounds[0].value.text} pp"
    return from_checks(
        checks,
        source=", ".join(bound.source for bound in bounds),
        claimed=f"every cell {within}",
        evidence=f"Every cell is said to be {within} of the grid, and the largest gap given is {found}.",
        assumes="a bound is exact, and the largest gap may be anything that rounds to the printed one",
        consistent_if=f"the bound is meant to its printed digit only ({value.text} rounds to it)",
    )


def mean_gap(paper: Reported) -> Finding:
    """`audit/mean-gap`: whether mean, interval and maximum of the cells' accuracy gaps are compatible."""
    figure, largest = paper.figure("one-dim/mean-gap"), paper.figure("one-dim/max-gap").value
    n = len(paper.ratios)
    need(n >= 2, "at least two cells")
    mean, text, (low, high) = figure.value, figure.measured.text, figure.measured.interval
    sd = figure.measured.half_width[1] / float(stats.norm.ppf(0.975)) * math.sqrt(n)
    # Samuelson's inequality: no value lies farther from the mean than (n - 1) / sqrt(n) standard deviations.
    most = mean.high + sd * (n - 1) / math.sqrt(n)
    inside, possible = low.low <= mean.value <= high.high, mean.low <= largest.high and largest.low <= most
    reach = f"between {mean.text} and {most:.2g}"
    return from_checks(
        [
            Check("interval", f"holds {mean.text}", text, holds=inside, source=figure.source),
            Check("largest gap", largest.text, reach, holds=possible, source=figure.source),
        ],
        claimed=f"mean {text}, largest {largest.text} pp",
        evidence=f"{n} gaps with mean {text} can be as large as {most:.2g} pp; the largest is {largest.text}.",
        assumes="the interval is 1.96 standard errors of a mean over cells; Samuelson's inequality (1968), which holds "
        "for any distribution",
        consistent_if="mean, interval or maximum is misprinted",
    )


def noise_floor(paper: Reported) -> Finding:
    """`audit/noise-floor`: mean and largest accuracy gap compared with the standard deviation between seeds."""
    mean, largest = paper.figure("one-dim/mean-gap"), paper.figure("one-dim/max-gap")
    low, high = paper.figure("one-dim/seed-sd").measured.interval
    gap, most, noise = mean.value, largest.value, f"{low.text} to {high.text}"
    checks = []
    for what, figure, decides in (("mean gap", mean, True), ("largest gap", largest, False)):
        below, text = figure.value.low < low.high, figure.value.text
        checks.append(Check(what, f"below {noise}", text, holds=below, source=figure.source, decides=decides))
    seeds = int(paper.value("count/seeds"))
    errors = low.value * math.sqrt(2 / seeds), high.value * math.sqrt(2 / seeds)
    return from_checks(
        checks,
        source=mean.source,
        claimed=f"gaps of {gap.text} and {most.text} pp within the noise of {noise}",
        evidence=f"The mean gap {gap.text} pp is {'below' if checks[0].holds else 'not below'} the smallest standard "
        f"deviation between seeds, {low.text}; the largest, {most.text}, is {'too' if checks[1].holds else 'not'} "
        f"(the largest standard deviation is {high.text}); the difference of two means of {seeds} seeds has a standard "
        f"error of {span(*errors, 2)}.",
        assumes="the noise floor is the standard deviation between single seeds; a gap is within the noise if it is "
        "below the smallest",
        consistent_if="the cell with the largest gap is one with a standard deviation near the upper end",
        details={"standard error of a difference of two means": errors},
    )


def gap_draws(truth: Floats, line: Floats, sd: float, seeds: int, cells: int, rng: np.random.Generator) -> Floats:
    """Draws [DRAWS] of the mean gap over `cells`: maximum over noisy means of the grid minus that over the line.

    `truth` and `line` are expected accuracies (pp) of the grid's and the line's points, any shape; `sd` is the standard
    deviation between seeds (pp). The line's noise is independent of the grid's, which makes the gap largest.
    """
    error = sd / math.sqrt(seeds)
    grid = (truth.ravel() + rng.normal(0, error, (DRAWS, truth.size))).max(axis=1)
    along = (line.ravel() + rng.normal(0, error, (DRAWS, line.size))).max(axis=1)
    return np.asarray(rng.choice(grid - along, size=(DRAWS, cells)).mean(axis=1))


def gap_sign(paper: Reported) -> Finding:
    """`audit/gap-sign`: if the line contains the best weight decay of every learning rate, no grid can beat it.

    Let a(lr, wd) be the expected accuracy and rho * lr its argmax over wd at each learning rate. Then
    max over the grid <= max over lr of a(lr, rho * lr): the true gap is at most 0. A cell whose own ratio is rho'
    instead of rho loses at most the drop at kappa = rho / rho'. The plug-in gap, a maximum over many noisy means minus
    one over few, can be above 0 by optimism; its size is simulated with the paper's own drops, and with no effect of
    weight decay.
    """
    figure = paper.figure("one-dim/mean-gap")
    low, _ = figure.measured.interval
    need(paper.drops, "a table of accuracy drops")
    allowed = []
    for row in paper.ratios:
        kappa = paper.rho / row.rho.value.value
        dataset = row.dataset if any(d.dataset == row.dataset for d in paper.drops) else paper.drops[0].dataset
        allowed.append(float(expected_drop(paper, dataset, np.array([math.log(kappa)]), "level")[0]))
    bound = float(np.mean(allowed))
    above = low.low > bound
    unlikely = True
    details: dict[str, object] = {"true gap at most": bound}
    evidence = (
        f"If {paper.rho:g} x lr is the best weight decay at each learning rate the true gap is at most 0 "
        f"(at most {bound:.2f} pp with the table's own ratios), and its interval is {figure.measured.text}"
    )
    if paper.states("one-dim/seed-sd") and paper.states("count/seeds"):
        text, found, chance = _simulated(paper, figure.value.low)
        unlikely = chance < LEVEL
        evidence += text
        details |= found
    printed, most, fits = figure.measured.text, f"at most {bound:.2f}", not (above and unlikely)
    return from_checks(
        [Check("mean gap", printed, most, holds=fits, source=figure.source, decides=True)],
        claimed=f"mean gap {printed} pp",
        evidence=evidence + ".",
        assumes="the claim itself, the drops of the paper's table interpolated linearly over ln kappa, "
        "and independent normal seeds with the stated standard deviation; a gap that optimism alone reaches with "
        f"probability {LEVEL:g} is accepted",
        consistent_if="the gap is the optimism of a maximum over noisy means, or the best weight decays lie off the "
        "line",
        details=details,
    )


def _simulated(paper: Reported, reported: float) -> tuple[str, dict[str, object], float]:
    """The mean gap simulated with the largest stated noise: a sentence, its numbers, the chance of >= `reported`."""
    _, sd = paper.figure("one-dim/seed-sd").measured.interval
    seeds, cells = int(paper.value("count/seeds")), len(paper.ratios)
    rng = np.random.default_rng(0)
    best, likely = -math.inf, 0.0
    for lr, wds in paper.grid:  # each learning rate in turn as the best one, all others far behind
        with np.errstate(divide="ignore"):
            x = np.log(np.array(wds) / (paper.rho * lr))
        truth = -expected_drop(paper, paper.drops[0].dataset, x, "level")
        draws = gap_draws(truth, np.zeros(1), sd.value, seeds, cells, rng)
        if draws.mean() > best:
            best, likely = float(draws.mean()), float(np.mean(draws >= reported))
    most = max(len(wds) for _, wds in paper.grid)
    flat = gap_draws(np.zeros(most), np.zeros(1), sd.value, seeds, cells, rng)
    everywhere = gap_draws(np.zeros((len(paper.grid), most)), np.zeros(len(paper.grid)), sd.value, seeds, cells, rng)
    text = (
        f"; with the table's drops and noise of {sd.text} the plug-in gap averages {best:.2f} at most and reaches "
        f"{reported:.3g} with probability {likely:.2g}, whereas weight decay without any effect gives "
        f"{everywhere.mean():.2f} to {flat.mean():.2f}"
    )
    numbers: dict[str, object] = {
        "plug-in gap under the claims": best,
        "probability of the reported gap under the claims": likely,
        "plug-in gap if neither lr nor wd matters": float(everywhere.mean()),
        "plug-in gap if wd does not matter at the best lr": float(flat.mean()),
    }
    return text, numbers, likely
