"""Sums and differences of intervals: exact where the parts are normal, and never narrower than a part that is open."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from replicate.estimate.combine import Span, difference, largest_distance, mean, mean_in_step

Z = float(stats.norm.ppf(0.975))


@st.composite
def spans(draw: st.DrawFn, open_ends: bool = True) -> Span:
    value = draw(st.floats(-100, 100))
    down, up = draw(st.floats(0, 50)), draw(st.floats(0, 50))
    if open_ends:
        down, up = (draw(st.sampled_from([side, side, math.inf])) for side in (down, up))
    return Span(value, value - down, value + up)


def normal(value: float, sd: float, z: float = Z) -> Span:
    """The exact interval of a normal mean with known standard error."""
    return Span(value, value - z * sd, value + z * sd)


def as_tuple(s: Span) -> tuple[float, float, float]:
    return s.value, s.low, s.high


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="mean of intervals: expected at least one, got none"):
        mean([])


@pytest.mark.parametrize("n", [0, 1])
def test_one_part_has_no_distance(n: int) -> None:
    parts = [normal(0, 1)] * n
    with pytest.raises(ValueError, match=f"largest distance: expected at least two parts, got {n}"):
        largest_distance(parts, parts)


def test_normal_parts_give_the_exact_normal_interval() -> None:
    """Independent normal estimates: variances add, so the interval of mean and difference is known exactly."""
    values, sds = np.array([1.0, 4.0, -2.5]), np.array([0.3, 1.2, 2.0])
    parts = [normal(v, s) for v, s in zip(values, sds, strict=True)]
    low, high = stats.norm.interval(0.95, values.mean(), np.sqrt((sds**2).sum()) / 3)
    assert as_tuple(mean(parts)) == pytest.approx((values.mean(), low, high))
    low, high = stats.norm.interval(0.95, -3.0, np.hypot(0.3, 1.2))
    assert as_tuple(difference(parts[0], parts[1])) == pytest.approx((-3.0, low, high))


def test_skewed_parts_keep_their_shape_by_hand() -> None:
    a, b = Span(10, 7, 20), Span(4, 0, 5)
    assert as_tuple(mean([a, b])) == pytest.approx((7, 7 - 5 / 2, 7 + math.hypot(10, 1) / 2))
    # The first one's lower side goes with the second one's upper side, and the other way round.
    assert as_tuple(difference(a, b)) == pytest.approx((6, 6 - math.hypot(3, 1), 6 + math.hypot(10, 4)))


def test_an_open_end_stays_open_on_its_own_side() -> None:
    closed, below, above = normal(1, 1), Span(0, -math.inf, 1), Span(0, -1, math.inf)
    assert mean([closed, below]).low == -math.inf
    assert math.isfinite(mean([closed, below]).high)
    assert difference(closed, below).high == math.inf
    assert math.isfinite(difference(closed, below).low)
    assert difference(closed, above).low == -math.inf
    unknown = Span(0, -math.inf, math.inf)
    found = largest_distance([closed, normal(9, 1), unknown], [closed, normal(9, 1), unknown])
    assert found.high == math.inf
    assert found.low > 0  # the two known ones are apart, whatever the third


@given(st.lists(spans(), min_size=1, max_size=5), st.floats(-50, 50))
@settings(max_examples=100, deadline=None)
def test_mean_moves_and_reflects_with_its_parts(parts: list[Span], shift: float) -> None:
    found = mean(parts)
    moved = mean([Span(p.value + shift, p.low + shift, p.high + shift) for p in parts[::-1]])
    mirrored = mean([Span(-p.value, -p.high, -p.low) for p in parts])
    assert as_tuple(moved) == pytest.approx((found.value + shift, found.low + shift, found.high + shift), abs=1e-6)
    assert as_tuple(mirrored) == pytest.approx((-found.value, -found.high, -found.low), abs=1e-9)
    assert found.low <= found.value <= found.high
    # A mean is never less sure than its least sure part.
    assert found.high - found.value <= max(p.high - p.value for p in parts) + 1e-9


@given(spans(), spans())
@settings(max_examples=100, deadline=None)
def test_difference_is_antisymmetric_and_contains_less_than_the_worst_case(a: Span, b: Span) -> None:
    there, back = difference(a, b), difference(b, a)
    assert as_tuple(back) == pytest.approx((-there.value, -there.high, -there.low))
    assert a.low - b.high - 1e-9 <= there.low <= there.value <= there.high <= a.high - b.low + 1e-9
    known = difference(a, Span(b.value, b.value, b.value))
    assert as_tuple(known) == pytest.approx((a.value - b.value, a.low - b.value, a.high - b.value), abs=1e-9)


def test_mean_of_equal_parts_shrinks_with_the_root_of_their_number() -> None:
    for n in (1, 4, 25):
        assert as_tuple(mean([normal(3, 1)] * n)) == pytest.approx((3, 3 - Z / math.sqrt(n), 3 + Z / math.sqrt(n)))


def test_largest_distance_by_hand() -> None:
    parts = [normal(0, 0.1), normal(1, 0.1), normal(5, 0.1)]
    strict = [normal(0, 0.1, 3), normal(1, 0.1, 3), normal(5, 0.1, 3)]
    half = Z * math.hypot(0.1, 0.1)
    assert as_tuple(largest_distance(parts, strict)) == pytest.approx((5, 5 - 3 * math.hypot(0.1, 0.1), 5 + half))


def test_a_wide_pair_that_is_not_the_largest_sets_the_upper_end() -> None:
    parts = [normal(0, 0.01), normal(2, 0.01), normal(1, 4)]
    assert largest_distance(parts, parts).high == pytest.approx(1 + Z * math.hypot(4, 0.01))


@given(st.lists(spans(open_ends=False), min_size=2, max_size=5), st.floats(-50, 50))
@settings(max_examples=60, deadline=None)
def test_largest_distance_is_that_of_the_worst_pair(parts: list[Span], shift: float) -> None:
    found = largest_distance(parts, parts)
    pairs = [difference(a, b) for i, a in enumerate(parts) for j, b in enumerate(parts) if i != j]
    expected = (max(p.value for p in pairs), max(0.0, *(p.low for p in pairs)), max(p.high for p in pairs))
    assert as_tuple(found) == pytest.approx(expected)
    assert found.low <= found.value <= found.high
    moved = [Span(p.value + shift, p.low + shift, p.high + shift) for p in parts[::-1]]
    assert as_tuple(largest_distance(moved, moved)) == pytest.approx(as_tuple(found), abs=1e-6)


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_largest_distance_errs_as_seldom_as_it_says(spread: float) -> None:
    """Five normal parts. Claiming too small a distance (an upper end below the truth) may happen in 2.5 % of draws,
    too large a one in 5 %: bounds at the 99.9 % point of the binomial."""
    truth = np.linspace(0, spread, 5)
    rng = np.random.default_rng(1)
    strict_z = float(stats.norm.ppf(1 - 0.025 / 10))
    n, below, above = 500, 0, 0
    for drawn in truth + rng.normal(0, 0.5, (n, 5)):
        found = largest_distance([normal(v, 0.5) for v in drawn], [normal(v, 0.5, strict_z) for v in drawn])
        below += found.high < spread
        above += found.low > spread
    assert below <= stats.binom.ppf(0.999, n, 0.025)
    assert above <= stats.binom.ppf(0.999, n, 0.05)


def test_coverage_of_a_mean_of_t_intervals() -> None:
    """Ten parts, each a t interval of five values: a sum of many such intervals covers at least what they do.

    2,000 draws: three standard errors below 95 % are 93.5 %.
    """
    rng = np.random.default_rng(2)
    t = float(stats.t.ppf(0.975, 4))
    data = rng.normal(0, 1, (2000, 10, 5))
    centre, error = data.mean(axis=2), data.std(axis=2, ddof=1) / np.sqrt(5)
    inside = 0
    for c, e in zip(centre, error, strict=True):
        found = mean([Span(v, v - t * s, v + t * s) for v, s in zip(c, e, strict=True)])
        inside += found.low <= 0 <= found.high
    assert inside / 2000 > 0.935


def test_a_mean_in_step_averages_the_ends() -> None:
    assert mean_in_step([Span(1.0, 0.5, 2.0), Span(2.0, 1.0, math.inf)]) == Span(1.5, 0.75, math.inf)
    with pytest.raises(ValueError, match="expected at least one"):
        mean_in_step([])


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=6))
def test_errors_in_step_leave_a_mean_no_surer_than_independent_ones(found: list[tuple[float, float, float]]) -> None:
    parts = [Span(value, value - down, value + up) for value, down, up in found]
    apart, in_step = mean(parts), mean_in_step(parts)
    assert in_step.low <= apart.low + 1e-9
    assert in_step.high >= apart.high - 1e-9
