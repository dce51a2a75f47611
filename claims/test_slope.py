"""The best weight decay grows in proportion to the learning rate: a log-log slope of 1.

Paper: Table 1 gives slopes of 0.95 to 1.06, with intervals from 0.84 to 1.19. Rivals: slope 0 (the best weight decay
does not depend on the learning rate) and slope -1 (it is proportional to 1 / learning rate).

Rule: the interval of the slope lies in [0.8, 1.2].

Cost: no runs beyond those of test_rho.py.

Run: pytest claims/test_slope.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("slope")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
