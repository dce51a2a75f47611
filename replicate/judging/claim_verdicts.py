"""From a claim and its landscapes to its verdict: select, estimate, decide, and add secondary results."""

from __future__ import annotations

from replicate.judging import quantities, rule, secondary
from replicate.judging.ratios import LEVEL
from replicate.judging.select import Landscapes, Selected, select
from replicate.judging.verdict import Evidence, Verdict
from replicate.paper.claim import Claim


def judge(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float = LEVEL) -> Verdict:
    """The verdict on `claim`, with secondary results, from the `landscapes` of the claim's cells and variants.

    `evidence`: the runs behind the landscapes; `level`: level, 0 to 1, of the interval that decides.
    """
    return secondary.beside(claim, *_decided(claim, landscapes, evidence, level))


def decide(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float = LEVEL) -> Verdict:
    """As `judge`, without the secondary results."""
    return _decided(claim, landscapes, evidence, level)[1]


def _decided(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float) -> tuple[Selected, Verdict]:
    """The landscapes on which the claim is judged, and the verdict."""
    selected = select(claim, landscapes)
    estimate = quantities.estimate(claim, selected, level)
    run = {chosen.cell for chosen in selected}
    return selected, rule.decide(claim, estimate, evidence, [cell for cell in claim.cells if cell not in run])
