"""The ratio does not depend on the architecture.

Paper: section 4.1 reports F(4, 45) = 0.72, p = 0.58.

Rule: no two architectures' ratios differ by a factor of 2 or more; an analysis of variance is only reported.

Cost: no runs beyond those of test_rho.py in all ten cells.

Run: pytest claims/test_universality.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("universality")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
