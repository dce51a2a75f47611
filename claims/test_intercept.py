"""The line of best weight decay against learning rate passes through the origin.

Paper: section 4.1 finds no cell whose intercept differs from zero (every p above 0.3).

Rule: equivalence, not lack of significance: the intercept is a small share of the line.

Cost: no runs beyond those of test_rho.py.

Run: pytest claims/test_intercept.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("intercept")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
