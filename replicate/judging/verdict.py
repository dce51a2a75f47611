"""The decision rule: an estimate against a claim's margin gives a verdict, always with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from replicate.estimate.result import Estimate
from replicate.paper.claim import Claim, Margin

REPLICATED = "replicated"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive"
NOT_RUN = "not run"
OUTCOMES = (REPLICATED, CONTRADICTED, INCONCLUSIVE, NOT_RUN)


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on."""

    scale: str
    probe: bool
    """True unless the runs are the paper's own protocol on the paper's own cells."""
    cells: tuple[str, ...] = ()
    """What was really trained, e.g. `resnet50 on digits`."""
    runs: int = 0
    runs_missing: int = 0
    seeds: int = 0
    synthetic: bool = False
    note: str = ""
    """What else a reader must know, e.g. `not the published CIFAR-100`."""

    @property
    def label(self) -> str:
        """One phrase for tables: the scale and what kind of evidence it is."""
        kind = "synthetic" if self.synthetic else "probe" if self.probe else "paper protocol"
        return f"{self.scale} ({kind}: {self.note})" if self.note else f"{self.scale} ({kind})"


@dataclass(frozen=True)
class Verdict:
    """The answer to one claim."""

    claim_id: str
    outcome: str
    reason: str
    margin: Margin
    evidence: Evidence
    estimate: Estimate | None = None
    settle: str = ""
    """What would settle an inconclusive or not-run claim."""
    secondary: dict[str, Any] = field(default_factory=dict)
    """Criteria beside the verdict (the paper's own method, the strict band, …); they never decide."""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{self.claim_id}: expected an outcome of {OUTCOMES}, got {self.outcome!r}")
        if not self.reason:
            raise ValueError(f"{self.claim_id}: expected a reason, got none")


def position(low: float, high: float, margin: Margin) -> str:
    """Where an interval lies: inside the margin, outside it, or neither (three-sided test)."""
    if margin.low <= low and high <= margin.high:
        return REPLICATED
    if high < margin.low or low > margin.high:
        return CONTRADICTED
    return INCONCLUSIVE


FORBIDS_REPLICATION = {
    "few-optima": "too few learning rates have an optimum that is closed on both sides",
    "ratio-varies": "the ratio changes with the learning rate, so no one number is it",
    "ratio-may-vary": "the likeliest slope takes the ratio more than a factor 1.5 from its mean at some learning rate",
    "ratio-off": "the ratio at some learning rate may well lie outside the margin",
    "law-breaks": "the best weight decay at some learning rate is off the law that fits the others",
    "sides-differ": "the exponents of two sides or data sets differ, so no one number is it",
    "zone-off": "a factor 2 costs more than a factor 5, or less than nothing, as no such law has it",
    "no-straight-line": "no straight line fits, so the intercept is that of the nearest one only",
}
"""Flags of estimates whose interval may lie inside the margin and yet not speak for the whole claim."""


def forbidden(flags: Iterable[str]) -> str:
    """Why nothing with these `flags` is replicated; empty where nothing keeps it from that."""
    return ", and ".join(FORBIDS_REPLICATION[flag] for flag in flags if flag in FORBIDS_REPLICATION)


def rule(claim: Claim, estimate: Estimate, evidence: Evidence, secondary: dict[str, Any] | None = None) -> Verdict:
    """The verdict of `claim` from the estimate of its quantity: inside the margin, outside, or can't tell."""
    outcome = position(estimate.low, estimate.high, claim.margin)
    inside = {
        REPLICATED: "lies inside the margin",
        CONTRADICTED: "lies outside the margin",
        INCONCLUSIVE: "reaches across the margin's edge",
    }[outcome]
    interval = f"{100 * estimate.level:g} % interval {span(estimate.low, estimate.high)} {estimate.unit}".rstrip()
    reason = f"{interval} {inside} {span(claim.margin.low, claim.margin.high)}"
    if estimate.flags:
        reason += f" ({', '.join(estimate.flags)})"
    if outcome == REPLICATED and (why := forbidden(estimate.flags)):
        outcome = INCONCLUSIVE
        reason += f", but {why}"
    found = dict(secondary or {})
    if claim.strict is not None:
        found["strict band"] = {
            "band": [claim.strict.low, claim.strict.high],
            "outcome": position(estimate.low, estimate.high, claim.strict),
        }
    settle = numbered(estimate, claim.margin, evidence.seeds) if outcome == INCONCLUSIVE else ""
    return Verdict(claim.id, outcome, reason, claim.margin, evidence, estimate, settle, found)


MORE_SEEDS = "more seeds"
"""What an estimate says would settle it where its interval narrows with the root of the number of seeds."""
MOST_TIMES = 100
"""More than so many times as many seeds are no advice."""


def numbered(estimate: Estimate, margin: Margin, seeds: int) -> str:
    """What would settle the claim, with the number of seeds where `more seeds` would.

    So many that the interval, if the value stays, ends at the nearer edge of the margin; half-widths go with the root.
    """
    value = estimate.value
    if estimate.settle != MORE_SEEDS or value is None or seeds < 1:
        return estimate.settle
    # By the edge that the interval reaches across; on the other side it has room.
    shares = []
    for edge in (margin.low, margin.high):
        end = estimate.low if edge < value else estimate.high
        if math.isfinite(edge) and math.isfinite(end) and estimate.low < edge < estimate.high:
            shares.append(abs(end - value) / abs(edge - value) if edge != value else math.inf)
    if not shares:
        return estimate.settle
    times = max(shares) ** 2
    if times > MOST_TIMES:
        return "a true value further from the margin's edge"
    return f"about {max(1, math.ceil(seeds * (times - 1)))} more seeds"


def not_run(claim: Claim, reason: str, evidence: Evidence, settle: str = "") -> Verdict:
    """The verdict of a claim whose runs are not there."""
    return Verdict(claim.id, NOT_RUN, reason, claim.margin, evidence, None, settle)


def span(low: float, high: float) -> str:
    """`[low, high]` to three digits; an open end as `…`."""
    ends = [f"{x:.3g}" if abs(x) < float("inf") else "…" for x in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"
