"""The best weight decay is 0.10 times the learning rate: in each cell, over all cells, and by each cell's test.

Paper: Table 1 gives ratios of 0.094 to 0.112 for the ten cells, 0.10 (0.08 to 0.12) over all, and p-values above 0.05
for a ratio of exactly 0.10 in each.

Rule: the interval of the ratio lies within a factor 2 of 0.10. A test that does not reject 0.10 proves nothing alone.

Cost: all grids of each cell (the paper's, the ratio grid, the bracket); slope, intercept and r2 use the same runs.
Minutes on two cores at scale embedded, seconds at smoke.

Run: pytest claims/test_rho.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("rho")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
