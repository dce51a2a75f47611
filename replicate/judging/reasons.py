"""The reason for a verdict in words: interval and margin as a sentence that can be read without the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from replicate.estimate import details
from replicate.estimate.estimate import Estimate
from replicate.estimate.flags import Flag
from replicate.paper.claim import Margin

MOST_DIGITS = 6


@dataclass(frozen=True)
class Subject:
    """Words for a quantity and its value: "`what` is VALUE`of`"."""

    what: str
    of: str = ""


SUBJECTS = {
    "rho": Subject("best λ", " times η"),
    "rho_rejects": Subject("best λ", " times η"),
    "rho_sgd": Subject("best λ", " times η"),
    "rho_pooled": Subject("best λ over all cells", " times η"),
    "slope": Subject("the log-log slope of best λ against η"),
    "intercept_share": Subject("the share of best λ that is independent of η"),
    "r2": Subject("R² of the proportional line"),
    "max_ratio": Subject("the largest factor between two architectures' ratios"),
    "drop_pp": Subject("the accuracy lost", " pp"),
    "hurts_pp": Subject("the smaller of the losses at κ = 0.1 and κ = 10", " pp"),
    "zone_pp": Subject("the slack of the tightest bound on the losses", " pp"),
    "growth_exponent": Subject("the exponent of the loss as a power of ln κ"),
    "asymmetry_pp": Subject("the cost of too much decay minus that of too little", " pp"),
    "gap_pp": Subject("the cost of tuning η alone", " pp"),
    "mean_gap_pp": Subject("the mean cost of tuning η alone", " pp"),
    "max_gap_pp": Subject("the largest cost of tuning η alone", " pp"),
    "gap_minus_seed_sd_pp": Subject("the mean cost of tuning η alone minus the SD over seeds", " pp"),
    "cost_ratio": Subject("the runs on the line as a share of the grid's"),
    "sgd_ratio": Subject("SGD's ratio", " times AdamW's"),
}
NATURAL = {
    **dict.fromkeys(("rho", "rho_rejects", "rho_sgd", "rho_pooled", "sgd_ratio"), (0.0, math.inf)),
    "max_ratio": (1.0, math.inf),
    "r2": (-math.inf, 1.0),
}
"""Quantity → range of possible values; an interval that reaches an end of the range is not bounded there."""
ABSENT = {
    Flag.NO_PAIRS: "runs to compare are missing",
    Flag.NO_DROP: "there is no loss to measure",
    Flag.TOO_FEW_POINTS: "too few weight decays",
    Flag.ONE_ARCHITECTURE: "one architecture only",
    Flag.ONE_SEED: "one seed only",
}
"""Flag → why there is no estimate."""
OPEN = {
    Flag.OPEN_CELLS: "the ratio of some cell is not bounded",
    Flag.FEW_OPTIMA: "too few learning rates have a bounded best λ",
}
"""Flag → why an estimate is not bounded."""


def sentence(estimate: Estimate, margin: Margin, can_tell: bool) -> str:
    """The reason: `best λ is 19 to 79 times η (claimed: 0.05 to 0.2)`; `may be` for `is` if not `can_tell`."""
    subject = SUBJECTS.get(estimate.quantity, Subject(estimate.quantity, f" {estimate.unit}".rstrip()))
    claimed = f"(claimed: {span(margin.low, margin.high, digits=3)})"
    least, most = NATURAL.get(estimate.quantity, (-math.inf, math.inf))
    low = -math.inf if estimate.low <= least else estimate.low
    high = math.inf if estimate.high >= most else estimate.high
    if math.isinf(low) and math.isinf(high):
        return f"{subject.what} is not bounded{why_not(estimate)} {claimed}"
    is_ = "is" if can_tell else "may be"
    here = f"{span(low, high, (margin.low, margin.high))}{subject.of}{varying(estimate)}"
    return f"{subject.what} {is_} {here} {claimed}"


def varying(estimate: Estimate) -> str:
    """` on average, but the ratio varies with η: 12 at η = 0.03, 17000 at η = 0.001`; empty if it is constant."""
    if Flag.RATIO_VARIES not in estimate.flags or not isinstance(estimate.details, details.Ratio):
        return ""
    found = sorted((row.value, row.lr) for row in estimate.details.ratios_together if row.value is not None)
    ends = ", ".join(f"{number(value)} at η = {lr:g}" for value, lr in found[:: max(1, len(found) - 1)])
    return f" on average, but the ratio varies with η{': ' if ends else ''}{ends}"


def why_not(estimate: Estimate) -> str:
    """Why an estimate is not bounded: `, because there is no loss to measure`; empty if no flag says why."""
    return next((f", because {words}" for flag, words in (ABSENT | OPEN).items() if flag in estimate.flags), "")


def absent(estimate: Estimate) -> str:
    """Why there is no estimate; empty if no flag says why."""
    return next((words for flag, words in ABSENT.items() if flag in estimate.flags), "")


def span(low: float, high: float, edges: Sequence[float] = (), digits: int = 2) -> str:
    """An interval in words, its ends by `number`: `19 to 79`, `at most 1`, `at least 0.05`, `0.125`."""
    if math.isinf(low) and math.isinf(high):
        return "anything"
    if math.isinf(low):
        return f"at most {number(high, edges, digits)}"
    if math.isinf(high):
        return f"at least {number(low, edges, digits)}"
    ends = number(low, edges, digits), number(high, edges, digits)
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def number(x: float, edges: Sequence[float] = (), least: int = 2) -> str:
    """`x` with the fewest digits, at least `least`, that keep it on its side of each of `edges`."""
    for digits in range(least, MOST_DIGITS):
        shown = float(f"{x:.{digits}g}")
        if all((shown > edge) == (x > edge) and (shown < edge) == (x < edge) for edge in edges):
            break
    else:
        shown = float(f"{x:.{MOST_DIGITS}g}")
    return f"{shown:.{MOST_DIGITS}g}".replace("-", "−")
