"""The decision rule: three-sided, equal to two one-sided tests, and never a verdict without its reason."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag
from replicate.estimate.line_fit import TOO_MANY
from replicate.judging.rule import numbered, position, rule
from replicate.judging.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    OUTCOMES,
    REPLICATED,
    Evidence,
    Secondary,
    StrictBand,
    Verdict,
    not_run,
)
from replicate.paper.claim import Claim, Margin
from replicate.text import interval

EVIDENCE = Evidence("smoke", probe=True)
INF = math.inf
NUMBER = st.floats(allow_nan=False)


def claim(margin: Margin, strict: Margin | None = None) -> Claim:
    return Claim("rho/made-up", "rho", "It is so.", "nowhere", "rho", "pp", margin, "it lies inside", (), strict=strict)


def estimate(low: float, high: float, flags: tuple[Flag, ...] = (), settle: str = "more seeds") -> Estimate:
    return Estimate("rho", "pp", None, low, high, 0.95, 5, "made up", flags, settle)


# ---------------------------------------------------------------- three sides


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.06, 0.19, REPLICATED),
        (0.05, 0.20, REPLICATED),  # the margin's ends belong to it
        (0.1, 0.1, REPLICATED),
        (0.04, 0.10, INCONCLUSIVE),
        (0.10, 0.21, INCONCLUSIVE),
        (0.01, 0.99, INCONCLUSIVE),
        (-INF, INF, INCONCLUSIVE),
        (-INF, 0.1, INCONCLUSIVE),
        (0.20, 0.30, INCONCLUSIVE),  # touches
        (0.01, 0.05, INCONCLUSIVE),
        (0.2000001, 0.3, CONTRADICTED),
        (0.001, 0.04, CONTRADICTED),
        (-INF, 0.04, CONTRADICTED),
        (0.3, INF, CONTRADICTED),
    ],
)
def test_position(low: float, high: float, expected: str) -> None:
    assert position(low, high, Margin(0.05, 0.20)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-5, 0.2, REPLICATED), (-INF, 0.3, REPLICATED), (0.2, 0.4, INCONCLUSIVE), (0.31, INF, CONTRADICTED)],
)
def test_position_in_a_one_sided_margin(low: float, high: float, expected: str) -> None:
    assert position(low, high, Margin(-INF, 0.3)) == expected
    assert position(-high, -low, Margin(-0.3, INF)) == expected


@given(
    st.lists(NUMBER, min_size=2, max_size=2).map(sorted), st.lists(NUMBER, min_size=2, max_size=2).map(sorted), NUMBER
)
def test_position_laws(ends: list[float], inner: list[float], edge: float) -> None:
    """Reflection; and a narrower interval never turns one decision into the other, nor a decision into doubt."""
    if inner[0] == inner[1]:
        return
    margin = Margin(*inner)
    found = position(*ends, margin)
    assert found in (REPLICATED, CONTRADICTED, INCONCLUSIVE)
    assert position(-ends[1], -ends[0], Margin(-inner[1], -inner[0])) == found
    if ends[0] <= edge <= ends[1] and found != INCONCLUSIVE:
        assert position(ends[0], edge, margin) == position(edge, ends[1], margin) == found


@given(st.integers(0, 10**6), st.floats(-1, 1), st.integers(2, 12), st.sampled_from([0.025, 0.05]))
@settings(max_examples=60, deadline=None)
def test_replicated_is_what_two_one_sided_tests_say(seed: int, shift: float, n: int, alpha: float) -> None:
    """TOST at alpha is the 1 - 2 alpha interval lying inside the margin (Schuirmann 1987), against statsmodels."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(shift, 0.3, n), rng.normal(0, 0.3, n)
    low, high = stats.ttest_rel(a, b).confidence_interval(1 - 2 * alpha)
    p, _, _ = ttost_paired(a, b, -0.5, 0.5)
    if abs(p - alpha) > 1e-9:
        assert (position(low, high, Margin(-0.5, 0.5)) == REPLICATED) == (p < alpha)


def test_margin_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a margin with low < high, got \(1, 1\)"):
        Margin(1, 1)
    with pytest.raises(ValueError, match=r"got \(nan, 1\)"):
        Margin(math.nan, 1)


# ---------------------------------------------------------------- the rule


def test_replicated() -> None:
    found = rule(claim(Margin(0.05, 0.2)), estimate(0.08, 0.123456), EVIDENCE)
    assert found.outcome == REPLICATED
    assert found.reason == "best λ is 0.08 to 0.12 times η (claimed: 0.05 to 0.2)"
    assert found.settle == ""
    assert (found.claim_id, found.margin, found.evidence) == ("rho/made-up", Margin(0.05, 0.2), EVIDENCE)
    assert found.estimate == estimate(0.08, 0.123456)


def test_contradicted_says_on_what_flags() -> None:
    found = rule(claim(Margin(0.05, 0.2)), estimate(0.3, INF, ("edge-high", "diverged")), EVIDENCE)
    assert found.outcome == CONTRADICTED
    assert found.reason == "best λ is at least 0.3 times η (claimed: 0.05 to 0.2); edge-high, diverged"
    assert found.settle == ""


def test_inconclusive_says_what_would_settle_it() -> None:
    found = rule(claim(Margin(-INF, 0.2)), estimate(0.1, 0.3), EVIDENCE)
    assert found.outcome == INCONCLUSIVE
    assert found.reason == "best λ may be 0.1 to 0.3 times η (claimed: at most 0.2)"
    assert found.settle == "more seeds"


def test_unknown_is_inconclusive() -> None:
    found = rule(claim(Margin(0.05, 0.2)), unknown("rho", "", 0.95, "none", (Flag.PLATEAU,), "more seeds"), EVIDENCE)
    assert found.outcome == INCONCLUSIVE
    assert found.reason == "best λ is not bounded (claimed: 0.05 to 0.2); plateau"


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        (Flag.FEW_OPTIMA, "too few learning rates have an optimum that is bounded on both sides"),
        (Flag.RATIO_VARIES, "the ratio changes with the learning rate, so no single number describes it"),
        (Flag.NO_STRAIGHT_LINE, "no straight line fits, so the intercept is only that of the nearest one"),
    ],
)
def test_some_flags_forbid_replication_but_no_contradiction(flag: Flag, why: str) -> None:
    inside = rule(claim(Margin(0.05, 0.2)), estimate(0.08, 0.12, (flag,), "a larger grid"), EVIDENCE)
    assert inside.outcome == INCONCLUSIVE
    assert inside.reason == f"best λ is 0.08 to 0.12 times η (claimed: 0.05 to 0.2); {flag}, but {why}"
    assert inside.settle == "a larger grid"
    outside = rule(claim(Margin(0.05, 0.2)), estimate(0.3, 0.4, (flag,)), EVIDENCE)
    assert outside.outcome == CONTRADICTED
    across = rule(claim(Margin(0.05, 0.2)), estimate(0.1, 0.4, (flag,)), EVIDENCE)
    assert (across.outcome, why in across.reason) == (INCONCLUSIVE, False)


def test_the_strict_band_is_reported_and_decides_nothing() -> None:
    wide = claim(Margin(0.05, 0.2), strict=Margin(0.08, 0.12))
    found = rule(wide, estimate(0.06, 0.07), EVIDENCE)
    assert found.outcome == REPLICATED
    assert found.secondary == Secondary(strict_band=StrictBand(0.08, 0.12, CONTRADICTED))


@given(
    st.lists(NUMBER, min_size=2, max_size=2).map(sorted),
    st.lists(st.sampled_from([Flag.MISFIT, Flag.FEW_OPTIMA, Flag.RATIO_VARIES]), max_size=2),
)
def test_no_interval_crashes_the_rule(ends: list[float], flags: list[Flag]) -> None:
    found = rule(claim(Margin(0.05, 0.2)), estimate(*ends, tuple(flags)), EVIDENCE)
    assert found.outcome in OUTCOMES
    assert found.reason


# ---------------------------------------------------------------- verdicts and what they rest on


def test_not_run_has_a_reason_and_no_estimate() -> None:
    found = not_run(claim(Margin(0, 1)), "3 of 5 runs are missing", EVIDENCE, "3 runs")
    assert (found.outcome, found.reason, found.estimate, found.settle) == (
        NOT_RUN, "3 of 5 runs are missing", None, "3 runs",
    )  # fmt: skip


def test_a_verdict_needs_an_outcome_and_a_reason() -> None:
    with pytest.raises(ValueError, match=r"rho/x: expected an outcome of replicated, .*, got 'maybe'"):
        Verdict("rho/x", "maybe", "because", Margin(0, 1), EVIDENCE)
    with pytest.raises(ValueError, match="rho/x: expected a reason, got none"):
        Verdict("rho/x", REPLICATED, "", Margin(0, 1), EVIDENCE)


@pytest.mark.parametrize(
    ("evidence", "label"),
    [
        (Evidence("cifar100", probe=False), "cifar100 (paper protocol)"),
        (Evidence("smoke", probe=True), "smoke (probe)"),
        (Evidence("cifar100", probe=False, synthetic=True), "cifar100 (synthetic)"),
        (Evidence("smoke", probe=True, synthetic=True), "smoke (synthetic)"),
    ],
)
def test_evidence_says_what_it_is(evidence: Evidence, label: str) -> None:
    assert evidence.label == label


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.123456, 0.2, "[0.123, 0.2]"),
        (-INF, INF, "(−∞, ∞)"),
        (-INF, 1e-7, "(−∞, 1e-07]"),
        (12345, INF, "[1.23e+04, ∞)"),
    ],
)
def test_an_interval_as_text(low: float, high: float, text: str) -> None:
    assert interval(low, high) == text


@pytest.mark.parametrize(
    ("low", "value", "high", "seeds", "settle"),
    [
        (0.0, 1.0, 2.0, 5, "about 15 more seeds"),  # from half of its width inside: four times as many
        (-0.3, 0.5, 1.3, 5, "about 8 more seeds"),  # 0.8 / 0.5, squared, is 2.56
        (1.0, 2.0, 3.0, 3, "about 9 more seeds"),  # the edge at 1.5 from without
        (0.45, 1.45, 2.45, 5, TOO_MANY),
        (-0.8, 0.5, 1.8, 4, "about 24 more seeds"),  # across both edges: the one that asks for more
        (0.5, 1.0, 1.52, 5, "about 1 more seed"),
        (0.0, 1.0, 2.0, 0, "more seeds"),  # nobody said how many there are
    ],
)
def test_how_many_more_seeds(low: float, value: float, high: float, seeds: int, settle: str) -> None:
    found = Estimate("x", "", value, low, high, 0.95, 5, "m", (), "more seeds")
    assert numbered(found, Margin(0.0, 1.5), seeds) == settle


@given(st.floats(-3, 3), st.floats(0.1, 5), st.integers(1, 50))
def test_with_so_many_seeds_the_interval_would_decide(value: float, half: float, seeds: int) -> None:
    margin = Margin(-1.0, 1.0)
    found = Estimate("x", "", value, value - half, value + half, 0.95, 5, "m", (), "more seeds")
    said = numbered(found, margin, seeds)
    if position(found.low, found.high, margin) != INCONCLUSIVE or not said.startswith("about"):
        return
    times = (seeds + int(said.split()[1])) / seeds
    narrow = half / times**0.5 - 1e-9
    assert position(value - narrow, value + narrow, margin) != INCONCLUSIVE
