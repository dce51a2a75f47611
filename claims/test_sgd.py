"""Under SGD with momentum the ratio is far smaller than under AdamW.

Paper: section 4.4 reports 0.005 (0.003 to 0.007) for three convolutional networks on CIFAR-100; only two of the paper's
five architectures are convolutional, so two are judged.

Rule: the interval of the ratio lies within a factor 2 of 0.005, and below a fifth of AdamW's ratio.

Cost: the paper's grid and a bracket for two cells under SGD; the comparison also needs the runs of test_rho.py.

Run: pytest claims/test_sgd.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("sgd")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
