"""Searching only over the learning rate, with weight decay 0.1 times it, costs almost no accuracy.

Paper: section 4.3 reports gaps to the full grid below 0.3 percentage points, 0.18 on average and 0.34 at most, less
than the spread between seeds, with 30 runs instead of 240.

Rule: the interval of the gap, corrected for the optimism of a maximum over noisy means, lies below 0.3 points.

Cost: the paper's grid and the claimed line in each cell, about half of the runs of test_rho.py.

Run: pytest claims/test_one_dim.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("one_dim")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
