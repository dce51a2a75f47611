"""The ratio survives other batch sizes, schedules and training lengths.

Paper: section 4.4 reports 0.09 to 0.11 for ResNet-50 on ImageNet at four batch sizes, 0.10, 0.11 and 0.09 under cosine,
step and linear schedules, and 0.09 after 300 epochs for ResNet-50 and ViT-S/16.

Rule: the interval of the ratio lies within a factor 2 of 0.10.

Cost: every variant is a cell's whole grid again, the long ones more than three times as dear. Only smoke trains them
among the probes.

Run: pytest claims/test_robust.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("robust")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
