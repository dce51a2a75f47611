"""From a claim and the scores of its runs to its verdict: select the runs, estimate, decide, add secondary results."""

from __future__ import annotations

from replicate.judging import quantities, rule, secondary
from replicate.judging.ratios import LEVEL
from replicate.judging.select import Landscapes, Selected, select
from replicate.judging.verdict import Evidence, Verdict
from replicate.paper.claim import Claim


def judge(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float = LEVEL) -> Verdict:
    """The verdict on `claim`, with secondary results such as those of the paper's own method.

    `landscapes`: the scores of the runs, by cell (model on a data set) and variant of the protocol; `evidence`: where
    these runs come from; `level`: confidence level, 0 to 1, of the interval that decides.
    """
    return secondary.beside(claim, *_decided(claim, landscapes, evidence, level))


def decide(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float = LEVEL) -> Verdict:
    """The verdict on `claim` without secondary results; arguments as in `judge`."""
    return _decided(claim, landscapes, evidence, level)[1]


def _decided(claim: Claim, landscapes: Landscapes, evidence: Evidence, level: float) -> tuple[Selected, Verdict]:
    """The landscapes (scores of runs) on which the claim is judged, and the verdict without secondary results."""
    selected = select(claim, landscapes)
    estimate = quantities.estimate(claim, selected, level)
    run = {chosen.cell for chosen in selected}
    return selected, rule.decide(claim, estimate, evidence, [cell for cell in claim.cells if cell not in run])
