"""A ratio kappa times the claimed one costs accuracy: little for kappa within a factor 2 of 1, much beyond.

Paper: Table 2 gives drops of 0.6 to 3.8 percentage points at kappa 0.1 to 10; section 4.2 calls [0.5, 2] the tolerance
zone, the growth beyond it quadratic in log kappa, and too much decay worse than too little on ImageNet.

Rule: the interval of each drop lies within the table's own interval, widened to 0.5 points if that is narrower.

Cost: the ratio grid (six learning rates with seven weight decays each), which is part of the runs of test_rho.py.

Run: pytest claims/test_deviation.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("deviation")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
