"""The ratio is the same for other batch sizes, schedules and training lengths.

Paper: section 4.4 reports 0.09 to 0.11 for ResNet-50 on ImageNet at four batch sizes, 0.10, 0.11 and 0.09 under cosine,
step and linear schedules, and 0.09 after 300 epochs for ResNet-50 and ViT-S/16.

Rule: the interval of the ratio lies within a factor 2 of 0.10.

Cost: all grids of a cell again for every variant, at over three times the cost for 300 epochs. See
`variants` in `replicate/runs/scales.py` for the scales that train these variants.

Run: pytest claims/test_robust.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.parametrize import claims_of
from replicate.paper.claim import Claim


@claims_of("robust")
def test_claim(claim: Claim, judge: Callable[[Claim], None]) -> None:
    judge(claim)
