"""From a claim and its landscapes to its verdict: select, estimate, decide, and what stands beside."""

from __future__ import annotations

from replicate.judging import quantities, rule, secondary
from replicate.judging.select import Landscapes, select
from replicate.judging.verdict import Evidence, Verdict
from replicate.paper.claim import Claim


def judge(claim: Claim, landscapes: Landscapes, evidence: Evidence) -> Verdict:
    """The verdict of `claim` on those of `landscapes` that its parts name."""
    selected = select(claim, landscapes)
    estimate = quantities.estimate(claim, selected)
    run = {chosen.cell for chosen in selected}
    verdict = rule.decide(claim, estimate, evidence, [cell for cell in claim.cells if cell not in run])
    return secondary.beside(claim, selected, verdict)
