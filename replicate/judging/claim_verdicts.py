"""From a claim and its landscapes to its verdict: select, estimate, decide, and what stands beside."""

from __future__ import annotations

from replicate.judging import quantities, rule, secondary
from replicate.judging.ratios import LEVEL
from replicate.judging.select import Landscapes, Selected, select
from replicate.judging.verdict import Evidence, Verdict
from replicate.paper.claim import Claim


def judge(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float = LEVEL) -> Verdict:
    """The verdict of `claim` on those of `landscapes` that its parts name; `level` as for `decide`."""
    return secondary.beside(claim, *_decided(claim, landscapes, evidence, level))


def decide(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float = LEVEL) -> Verdict:
    """The verdict without what stands beside it; `level`: that of the interval which decides."""
    return _decided(claim, landscapes, evidence, level)[1]


def _decided(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float) -> tuple[Selected, Verdict]:
    """What the claim speaks of, and the verdict on it."""
    selected = select(claim, landscapes)
    estimate = quantities.estimate(claim, selected, level)
    run = {chosen.cell for chosen in selected}
    return selected, rule.decide(claim, estimate, evidence, [cell for cell in claim.cells if cell not in run])
