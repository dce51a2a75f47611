"""What stands beside a verdict: by hand, against a simulation of second studies, and never deciding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from replicate.estimate.estimate import Estimate
from replicate.estimate.published import Published
from replicate.judging import secondary
from replicate.judging.rule import rule
from replicate.judging.secondary import by_the_papers_method, disagreement, prediction_interval
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    REPLICATED,
    Evidence,
    PapersFigure,
    Secondary,
)
from replicate.landscape.synthetic import Truth, bracket_grid, draw, paper_grid
from replicate.paper.claim import Claim, Figure, Margin
from replicate.paper.registry import CLAIMS

BY_ID = {c.id: c for c in CLAIMS}
RHO = BY_ID["rho/overall"]


def found(
    low: float, high: float, value: float | None = None, quantity: str = "rho_pooled", unit: str = ""
) -> Estimate:
    middle = (low + high) / 2 if value is None and math.isfinite(high - low) else value
    return Estimate(quantity, unit, middle, low, high, 0.95, 5, "m")


def of_figure(claim: Claim, estimate: Estimate) -> Secondary:
    return secondary.of_figure(claim, estimate, Secondary())


def paper(**figures: Any) -> Published:
    """What the paper's method gives, but for `figures` all of it as the paper has it."""
    usual = {"rho": 0.1, "rho_low": 0.09, "rho_high": 0.11, "p_rho": 0.5, "slope": 1.0, "intercept": 0.0}
    return Published(**{**usual, "intercept_p": 0.5, "r2": 0.95, "argmax": (), **figures})


def figure(value: float, low: float | None, high: float | None) -> Figure:
    return Figure(value, low, high, "", "here")


def test_the_papers_figure_and_prediction_of_the_pooled_ratio() -> None:
    """0.10 (0.08 to 0.12): in logarithms half of ln 1.5 wide."""
    beside = of_figure(RHO, found(0.09, 0.16, 0.12))
    assert beside.papers_figure == PapersFigure(0.1, in_our_interval=True)
    half = math.hypot(math.log(1.5) / 2, math.log(0.16 / 0.09) / 2)
    assert beside.prediction is not None
    ends = [beside.prediction.low, beside.prediction.high]
    assert ends == pytest.approx([0.1 * math.exp(-half), 0.1 * math.exp(half)])
    assert beside.prediction.holds_our_value
    far = of_figure(RHO, found(0.4, 0.6, 0.5)).prediction
    assert far is not None
    assert not far.holds_our_value


def test_open_intervals_and_other_units_are_compared_with_nothing() -> None:
    assert of_figure(RHO, found(0.1, math.inf)) == Secondary()
    assert of_figure(RHO, found(0.1, 0.2, unit="pp")) == Secondary()
    assert prediction_interval(figure(0.1, None, None), found(0.1, 0.2), logarithms=True) is None
    assert prediction_interval(figure(0.1, 0.08, 0.12), found(0.0, 0.2), logarithms=True) is None


def test_the_prediction_interval_holds_95_percent_of_second_studies() -> None:
    """Two studies of one truth with errors 1 and 0.5: 4,000 pairs, 99.9 % points of the binomial."""
    rng = np.random.default_rng(0)
    z, n, held = stats.norm.ppf(0.975), 4000, 0
    for first, second in rng.normal(0, [1.0, 0.5], (n, 2)):
        low, high = prediction_interval(
            figure(first, first - z, first + z), found(second - z / 2, second + z / 2), logarithms=False
        ) or (0, 0)
        held += low <= second <= high
    assert stats.binom.ppf(0.0005, n, 0.95) <= held <= stats.binom.ppf(0.9995, n, 0.95)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(1.5, 2.0, "as claimed"), (0.5, 0.9, "the other way"), (1.0, 1.5, "perhaps")],
)
def test_the_direction_of_a_bound(low: float, high: float, word: str) -> None:
    hurts = BY_ID["deviation/cifar100/hurts"]
    assert of_figure(hurts, found(low, high, quantity="hurts_pp", unit="pp")).direction.startswith(f"{word}: higher")
    gap = BY_ID["one-dim/gap/resnet50-cifar100"]
    assert of_figure(gap, found(-1.0, 0.1, quantity="gap_pp", unit="pp")).direction.startswith("as claimed: lower")
    assert of_figure(gap, found(0.5, 1.0, quantity="gap_pp", unit="pp")).direction.startswith("the other way")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.2, 3.0, "as claimed: rises"), (-2, -0.1, "the other way: falls"), (-1, 1, "can't be told")],
)
def test_the_direction_of_a_slope(low: float, high: float, word: str) -> None:
    assert of_figure(BY_ID["slope/resnet50-cifar100"], found(low, high, quantity="slope")).direction == word


@pytest.mark.parametrize(
    ("quantity", "published", "outcome"),
    [
        ("rho", {"rho": 0.1, "rho_low": 0.06, "rho_high": 0.15}, REPLICATED),
        ("rho", {"rho": 0.3, "rho_low": 0.25, "rho_high": 0.35}, CONTRADICTED),
        ("rho", {"rho": 0.2, "rho_low": 0.15, "rho_high": 0.35}, INCONCLUSIVE),
        ("slope", {"slope": 1.1}, REPLICATED),
        ("slope", {"slope": 0.3}, CONTRADICTED),
        ("r2", {"r2": 0.95}, REPLICATED),
        ("intercept_share", {"intercept_p": 0.4}, REPLICATED),
        ("intercept_share", {"intercept_p": 0.01}, CONTRADICTED),
        ("slope", {"slope": None}, None),
        ("gap_pp", {"rho": 0.1}, None),
    ],
)
def test_what_the_papers_method_would_say(quantity: str, published: dict[str, Any], outcome: str | None) -> None:
    margin = next(c.margin for c in CLAIMS if c.quantity == quantity)
    answer = by_the_papers_method(quantity, paper(**published), margin)
    assert (answer[0] if answer else None) == outcome


@given(st.floats(0.01, 1), st.floats(1.01, 10), st.floats(0.01, 1), st.floats(1.01, 10))
def test_a_word_where_both_differ_and_none_where_they_agree(
    low: float, up: float, paper_low: float, paper_up: float
) -> None:
    verdict = rule(RHO, found(low, low * up), Evidence("synthetic", probe=True))
    published = paper(rho=paper_low, rho_low=paper_low, rho_high=paper_low * paper_up)
    theirs = by_the_papers_method("rho_pooled", published, Margin(0.05, 0.2))
    assert theirs is not None
    word = disagreement(verdict, found(low, low * up), published)
    assert bool(word) == (theirs[0] != verdict.outcome)
    assert theirs[0] in word or not word


def test_a_sweep_on_the_papers_grid_says_where_the_papers_method_would_be_surer() -> None:
    """The claim is true and the grid can't tell; the argmax tells all the same."""
    made = draw(Truth(), paper_grid, np.random.default_rng(0))
    (cell,) = judge_sweep([made])
    assert cell.outcomes["slope"] == INCONCLUSIVE
    assert cell.to_json()["beside"]["direction"] == "can't be told"
    words = cell.disagreements
    assert {name for name in words if cell.outcomes[name] == INCONCLUSIVE} == set(words)
    assert words["rho"].startswith("the paper's method would say ")


def test_where_both_agree_nothing_is_said() -> None:
    made = draw(Truth(noise_sd_pp=0.05, seed_sd_pp=0.01), bracket_grid(Truth()), np.random.default_rng(0))
    (cell,) = judge_sweep([made])
    assert cell.outcomes["rho"] == REPLICATED
    assert "rho" not in cell.disagreements
