"""Reasons in words: examples, and the law that rounding never moves an end across an edge of the margin."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replicate.estimate.details import Ratio, RatioAt
from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag
from replicate.judging import quantities, reasons
from replicate.paper.claim import Margin

INF = math.inf
FACTOR_2 = Margin(0.05, 0.2)


def of(quantity: str, low: float, high: float) -> Estimate:
    return Estimate(quantity, "", None, low, high, 0.95, 3, "made up")


@pytest.mark.parametrize(
    ("estimate", "margin", "can_tell", "said"),
    [
        (of("rho", 19.1, 78.5), FACTOR_2, True, "best λ is 19 to 78 times η (claimed: 0.05 to 0.2)"),
        (of("rho", 0.0, 950.0), FACTOR_2, False, "best λ may be at most 950 times η (claimed: 0.05 to 0.2)"),
        (of("rho", 0.0, INF), FACTOR_2, False, "best λ is not bounded (claimed: 0.05 to 0.2)"),
        (
            of("r2", -INF, 1.0), Margin(0.9, INF), False,
            "R² of the proportional line is not bounded (claimed: at least 0.9)",
        ),
        (
            of("gap_pp", 0.0, 0.102), Margin(-INF, 0.3), True,
            "the cost of tuning η alone is 0 to 0.1 pp (claimed: at most 0.3)",
        ),
        (of("rho", 0.196, 0.2004), FACTOR_2, False, "best λ may be 0.196 to 0.2004 times η (claimed: 0.05 to 0.2)"),
        (of("drop_pp", -0.25, 0.45), Margin(2.8, 4), True, "the accuracy lost is −0.25 to 0.45 pp (claimed: 2.8 to 4)"),
        (
            unknown("asymmetry_pp", "pp", 0.95, "m", (Flag.NO_PAIRS,)), Margin(0, INF), False,
            "the cost of too much decay minus that of too little is not bounded, because runs to compare are missing "
            "(claimed: at least 0)",
        ),
    ],
)  # fmt: skip
def test_sentences(estimate: Estimate, margin: Margin, can_tell: bool, said: str) -> None:
    assert reasons.sentence(estimate, margin, can_tell) == said


def test_a_ratio_that_varies_with_the_learning_rate_is_said_to() -> None:
    rows = tuple(
        RatioAt(lr, value, None, None) for lr, value in ((1e-3, 16_700.0), (3e-3, None), (1e-2, 300.0), (3e-2, 12.0))
    )
    found = replace(of("rho", 1200.0, 2900.0), flags=(Flag.RATIO_VARIES,), details=Ratio((), rows))
    assert reasons.sentence(found, FACTOR_2, can_tell=True) == (
        "best λ is 1200 to 2900 times η on average, but the ratio varies with η: 12 at η = 0.03, 17000 at η = 0.001 "
        "(claimed: 0.05 to 0.2)"
    )


def test_every_quantity_has_words() -> None:
    assert set(reasons.SUBJECTS) == set(quantities._ESTIMATORS)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_rounding_never_moves_an_end_across_the_margin(x: float, edge: float) -> None:
    assume(abs(x - edge) > 1e-4 * abs(x))
    shown = float(reasons.number(x, (edge,)).replace("−", "-"))
    assert (shown > edge, shown < edge) == (x > edge, x < edge)
    assert shown == pytest.approx(x, rel=0.06, abs=1e-300)
