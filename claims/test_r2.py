"""The proportional line explains nearly all variance of the best weight decay.

Paper: Table 1 gives R squared of 0.94 to 0.97.

Rule: the interval of R squared lies at or above 0.90.

Cost: no runs beyond those of test_rho.py.

Run: pytest claims/test_r2.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("r2")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
