"""Why a verdict is what it is, in words: interval and margin as a sentence that needs no table beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from replicate.estimate.estimate import Estimate
from replicate.estimate.flags import Flag
from replicate.paper.claim import Margin

MOST_DIGITS = 6


@dataclass(frozen=True)
class Subject:
    """What a quantity is, for people: `what` is a number of `of`."""

    what: str
    of: str = ""


SUBJECTS = {
    "rho": Subject("best λ", " times η"),
    "rho_rejects": Subject("best λ", " times η"),
    "rho_sgd": Subject("best λ", " times η"),
    "rho_pooled": Subject("best λ over all cells", " times η"),
    "slope": Subject("the power of η that best λ goes with"),
    "intercept_share": Subject("the share of best λ that does not move with η"),
    "r2": Subject("R² of the proportional line"),
    "max_ratio": Subject("the ratio between the architectures farthest apart"),
    "drop_pp": Subject("the accuracy lost", " pp"),
    "hurts_pp": Subject("the smaller loss of κ = 0.1 and κ = 10", " pp"),
    "zone_pp": Subject("the room to the tightest bound of the zone", " pp"),
    "growth_exponent": Subject("the power of ln κ that the loss grows with"),
    "asymmetry_pp": Subject("what too much costs beyond too little", " pp"),
    "gap_pp": Subject("the cost of tuning η alone", " pp"),
    "mean_gap_pp": Subject("the mean cost of tuning η alone", " pp"),
    "max_gap_pp": Subject("the largest cost of tuning η alone", " pp"),
    "gap_minus_seed_sd_pp": Subject("the mean cost of tuning η alone less the seeds' spread", " pp"),
    "cost_ratio": Subject("the share of the grid's runs"),
    "sgd_ratio": Subject("SGD's ratio", " times AdamW's"),
}
NATURAL = {
    **dict.fromkeys(("rho", "rho_rejects", "rho_sgd", "rho_pooled", "sgd_ratio"), (0.0, math.inf)),
    "max_ratio": (1.0, math.inf),
    "r2": (-math.inf, 1.0),
}
"""Between which values a quantity lies whatever the runs say: an interval that ends there is open."""
ABSENT = {
    Flag.NO_PAIRS: "runs to compare are missing",
    Flag.NO_DROP: "there is no loss to measure",
    Flag.TOO_FEW_POINTS: "too few weight decays",
    Flag.ONE_ARCHITECTURE: "one architecture only",
    Flag.ONE_SEED: "one seed only",
}
"""Why there is no estimate at all."""
OPEN = {
    Flag.OPEN_CELLS: "some cell is not bounded",
    Flag.FEW_OPTIMA: "too few learning rates bound their best λ",
}
"""Why an estimate that there is has no ends."""


def sentence(estimate: Estimate, margin: Margin, can_tell: bool) -> str:
    """`best λ is 19 to 79 times η (claimed: 0.05 to 0.2)`; `may be` where the data cannot tell."""
    subject = SUBJECTS.get(estimate.quantity, Subject(estimate.quantity, f" {estimate.unit}".rstrip()))
    claimed = f"(claimed: {span(margin.low, margin.high, digits=3)})"
    least, most = NATURAL.get(estimate.quantity, (-math.inf, math.inf))
    low = -math.inf if estimate.low <= least else estimate.low
    high = math.inf if estimate.high >= most else estimate.high
    if math.isinf(low) and math.isinf(high):
        return f"{subject.what} is not bounded{why_not(estimate)} {claimed}"
    is_ = "is" if can_tell else "may be"
    return f"{subject.what} {is_} {span(low, high, (margin.low, margin.high))}{subject.of} {claimed}"


def why_not(estimate: Estimate) -> str:
    """`, for there is no loss to measure`: why an estimate has no ends; empty where no flag says it."""
    return next((f", for {words}" for flag, words in (ABSENT | OPEN).items() if flag in estimate.flags), "")


def absent(estimate: Estimate) -> str:
    """Why there is no estimate; empty where there is one."""
    return next((words for flag, words in ABSENT.items() if flag in estimate.flags), "")


def span(low: float, high: float, edges: Sequence[float] = (), digits: int = 2) -> str:
    """`19 to 79`, `at most 1`, `at least 0.05`, `0.125`; see `number`."""
    if math.isinf(low) and math.isinf(high):
        return "anything"
    if math.isinf(low):
        return f"at most {number(high, edges, digits)}"
    if math.isinf(high):
        return f"at least {number(low, edges, digits)}"
    ends = number(low, edges, digits), number(high, edges, digits)
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def number(x: float, edges: Sequence[float] = (), least: int = 2) -> str:
    """`x` with as few digits, `least` of them, as leave it on its side of each of `edges`."""
    for digits in range(least, MOST_DIGITS):
        shown = float(f"{x:.{digits}g}")
        if all((shown > edge) == (x > edge) and (shown < edge) == (x < edge) for edge in edges):
            break
    else:
        shown = float(f"{x:.{MOST_DIGITS}g}")
    return f"{shown:.{MOST_DIGITS}g}".replace("-", "−")
