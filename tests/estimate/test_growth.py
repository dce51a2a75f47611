"""Growth beyond the tolerance zone: laws whose exponent and edge are known, an independent fit, coverage."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from replicate.estimate.deviation import Drops, cell_drops
from replicate.estimate.growth import exponent, squared_form, zone_edge
from replicate.landscape.synthetic import ratio_grid
from replicate.paper.protocol import RHO
from tests.support.landscapes import sweep

Floats = NDArray[np.float64]
OTHERS = (0.1, 0.2, 0.5, 2.0, 5.0, 10.0)
EDGE, NEAR, FAR = np.log([2, 5, 10])


def law(p: float, gamma: float = 0.0, beta: float = 1.0) -> dict[float, float]:
    return {k: beta * max(abs(math.log(k)) - gamma, 0.0) ** p for k in OTHERS}


def some_drops(means: dict[float, float], sd: float, seed: int, cells: int = 1, n_seeds: int = 5) -> Drops:
    """The reference run of every seed is shared by all kappas, as in a real cell."""
    rng = np.random.default_rng(seed)
    out: dict[float, list[Floats]] = {k: [] for k in means}
    for _ in range(cells):
        reference = rng.normal(0, sd, n_seeds)
        for k, mean in means.items():
            out[k].append(mean + reference - rng.normal(0, sd, n_seeds))
    return out


@given(st.floats(0.3, 4), st.floats(0, float(EDGE)), st.floats(0.01, 100))
def test_the_edge_and_the_exponent_of_a_law_are_its_own(p: float, gamma: float, beta: float) -> None:
    at_edge, near, far = (beta * (x - gamma) ** p if x > gamma else 0.0 for x in (EDGE, NEAR, FAR))
    edge = zone_edge(at_edge, near, far)
    assert edge == pytest.approx(gamma, abs=2e-3)
    if gamma < 0.99 * EDGE:
        assert math.log(far / near) / math.log((FAR - edge) / (NEAR - edge)) == pytest.approx(p, rel=1e-2)


@given(st.floats(0.1, 1), st.floats(1.3, 5))
def test_the_edge_agrees_with_a_root_finder(share: float, growth: float) -> None:
    """An independent reference: the gamma at which the law through all three drops is a power law, by bisection."""

    def excess(gamma: float) -> float:
        p = math.log(growth) / math.log((FAR - gamma) / (NEAR - gamma))
        return float(((EDGE - gamma) / (NEAR - gamma)) ** p - share)

    found = zone_edge(share, 1.0, growth)
    if excess(0.0) <= 0:
        assert found == 0
    else:
        assert found == pytest.approx(optimize.brentq(excess, 0, EDGE), abs=1e-3)


def test_what_costs_nothing_at_the_edge_is_a_zone_up_to_it() -> None:
    assert zone_edge(0.0, 1.0, 3.0) == pytest.approx(EDGE)
    assert zone_edge(-0.2, 1.0, 3.0) == pytest.approx(EDGE)
    assert zone_edge(0.9, 1.0, 3.0) == 0


@given(st.floats(-1, 1.5), st.floats(0.01, 10))
def test_the_squared_form_goes_through_both_drops(gamma: float, beta: float) -> None:
    found = squared_form(beta * (NEAR - gamma) ** 2, beta * (FAR - gamma) ** 2)
    assert found == pytest.approx((gamma, beta), rel=1e-6, abs=1e-6)


def test_a_square_root_that_does_not_grow_has_no_edge() -> None:
    gamma, beta = squared_form(2.0, 2.0)
    assert (gamma, beta) == (-math.inf, 0.0)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0])
def test_growth_of_a_power_is_its_exponent(p: float) -> None:
    found = exponent({d: some_drops(law(p, beta=c), 1e-9, 0, cells=2) for d, c in (("x", 1.0), ("y", 3.0))})
    assert found.value == pytest.approx(p, abs=1e-5)
    assert found.high - found.low < 1e-4
    places = {(side.dataset, side.near, side.far) for side in found.details.sides}
    assert places == {(d, *k) for d in ("x", "y") for k in ((5.0, 10.0), (0.2, 0.1))}


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.5, float(EDGE)])
def test_the_papers_own_form_has_the_exponent_2_wherever_its_zone_ends(gamma: float) -> None:
    """Without the zone a law with gamma = ln 2 would have 3.1."""
    found = exponent({"x": some_drops(law(2.0, gamma, 1.3), 1e-6, 0, cells=2)})
    assert found.value == pytest.approx(2, abs=5e-3)
    for side in found.details.sides:
        assert side.gamma == pytest.approx(gamma, abs=5e-3)
        assert side.squared_gamma.value == pytest.approx(gamma, abs=1e-4)
        assert side.squared_beta_pp.value == pytest.approx(1.3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "gamma", "beta"),
    [(2.0, 0.0, 0.62), (2.0, float(EDGE), 1.25), (2.0, 0.3, 0.8), (1.0, 0.0, 1.4), (4.0, 0.0, 0.12)],
)
@pytest.mark.parametrize(
    ("sd", "n_seeds"),
    [(0.15, 3), *(pytest.param(*more, marks=pytest.mark.long) for more in [(0.02, 5), (0.15, 10)])],
)
def test_growth_covers_what_it_says(p: float, gamma: float, beta: float, sd: float, n_seeds: int) -> None:
    """Five cells on two data sets: 150 draws, 99.9 % point of the binomial at 95 %."""
    missed = 0
    for draw in range(150):
        by_dataset = {
            d: some_drops(law(p, gamma, beta), sd, 1000 * draw + i, cells=5, n_seeds=n_seeds)
            for i, d in enumerate("xy")
        }
        found = exponent(by_dataset)
        missed += not found.low <= p <= found.high
    assert missed <= stats.binom.ppf(0.999, 150, 0.05)


def test_the_interval_where_the_zone_is_known_to_be_none_is_the_delta_methods() -> None:
    """Drops at 2 far above the law fix gamma at 0: t quantile times the jackknife's error, to second order."""
    means = law(2.0) | {2.0: 1.5, 0.5: 1.5}
    drops = some_drops(means, 0.02, 1, n_seeds=8)
    found = exponent({"x": drops})
    left_out = [exponent({"x": {k: [np.delete(v[0], i)] for k, v in drops.items()}}).value for i in range(8)]
    error = np.sqrt(7 / 8 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 7) * error, rel=0.05)
    assert found.value - found.low == pytest.approx(found.high - found.value)


@given(st.integers(0, 10**6), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_growth_does_not_depend_on_depth_or_side(seed: int, unit: float) -> None:
    drops = some_drops(law(2.0), 0.1, seed, cells=2)
    before = exponent({"x": drops})
    deeper = exponent({"x": {k: [unit * v for v in cells] for k, cells in drops.items()}})
    mirrored = exponent({"x": {1 / k: cells for k, cells in drops.items()}})
    for other in (deeper, mirrored):
        assert (other.value, other.low, other.high) == pytest.approx((before.value, before.low, before.high), rel=1e-6)


@pytest.mark.parametrize("n_seeds", [2, 5])
def test_the_forms_are_strict_json_with_their_values_inside(n_seeds: int) -> None:
    found = exponent({"x": some_drops(law(2.0, 0.4), 0.1, 3, cells=2, n_seeds=n_seeds)})
    json.dumps(found.to_json(), allow_nan=False)
    for side in found.details.sides:
        for form in (side.squared_gamma, side.squared_beta_pp):
            assert form.low <= form.value <= form.high
        low, high = side.gamma_interval
        assert low <= side.gamma <= high


def test_growth_of_nothing_is_unknown() -> None:
    flat = exponent({"x": some_drops(dict.fromkeys(OTHERS, 0.0), 0.3, 0)})
    assert (flat.value, flat.low, flat.high, flat.flags) == (None, -math.inf, math.inf, ("no-drop",))
    assert flat.settle == "drops at kappa 5 and 10 that differ from 0 on x"
    one = exponent({"x": some_drops(law(2.0), 0.1, 0, n_seeds=1)})
    assert (one.value, one.flags) == (None, ("one-seed",))
    for kappas in ((5.0, 10.0), (0.1, 0.2, 5.0, 10.0)):
        part = exponent({"x": some_drops(dict.fromkeys(kappas, 2.0), 0.1, 0)})
        assert (part.value, part.flags) == (None, ("no-pairs",))


TWO_SIDES = {0.1: 3.0, 0.2: 3.0, 0.5: 3.0, 2.0: 1.0, 5.0: 1.0, 10.0: 1.0}


@pytest.mark.parametrize("by_side", [True, False])
def test_a_mean_of_exponents_that_differ_is_flagged(by_side: bool) -> None:
    """1 on one side, or data set, and 3 on the other: their mean is 2, and nobody's."""
    if by_side:
        means = {k: abs(math.log(k)) ** p for k, p in TWO_SIDES.items()}
        drops = {d: some_drops(means, 0.05, i, cells=5) for i, d in enumerate("xy")}
    else:
        drops = {d: some_drops(law(p), 0.05, i, cells=5) for i, (d, p) in enumerate((("x", 1.0), ("y", 3.0)))}
    found = exponent(drops)
    assert 1.5 < found.low < found.high < 2.5
    assert "sides-differ" in found.flags
    alike = exponent({d: some_drops(law(2.0), 0.05, i, cells=5) for i, d in enumerate("xy")})
    assert alike.flags == ()


@pytest.mark.parametrize("at_edge", [3.0, -3.0])
def test_a_zone_that_no_such_law_has_is_flagged(at_edge: float) -> None:
    """A factor 2 that costs more than a factor 5, or far less than nothing."""
    means = law(2.0, 0.0, 0.8) | {2.0: at_edge}
    assert "zone-off" in exponent({"x": some_drops(means, 0.05, 0, cells=3)}).flags


@pytest.mark.parametrize("lacking", [(10.0,), (10.0, 0.1), (5.0,)])
def test_cells_that_lack_a_kappa_are_left_out_of_all(lacking: tuple[float, ...]) -> None:
    """The steepest of three cells diverged there: its drops at the others must not be compared with the rest's."""
    parts = [dict(some_drops(law(2.0, beta=beta), 0.02, i)) for i, beta in enumerate((2.5, 0.3, 0.3))]
    for kappa in lacking:
        parts[0][kappa] = [np.full(5, np.nan)]
    found = exponent({"x": {k: [part[k][0] for part in parts] for k in OTHERS}})
    rest = exponent({"x": {k: [part[k][0] for part in parts[1:]] for k in OTHERS}})
    assert (found.value, found.low, found.high) == (rest.value, rest.low, rest.high)
    assert found.low <= 2 <= found.high
    nobody = exponent({"x": {k: [part[k][0] for part in parts[:1]] for k in OTHERS}})
    assert nobody.flags == ("no-pairs",)


def test_learning_rates_that_lack_a_kappa_are_left_out_of_all() -> None:
    """Depths that grow with the learning rate, and runs at ten times the decay that diverged at the largest ones."""

    def made(lr: float, wd: float) -> float:
        return 75 - 0.3 * (lr / 1e-4) ** 0.5 * math.log(wd / (RHO * lr)) ** 2

    rng = np.random.default_rng(0)
    scores = {
        lr: {wd: made(lr, wd) + rng.normal(0, 0.02, 4) for wd in ratio_grid(lr)} for lr in (1e-4, 3e-4, 1e-3, 3e-3)
    }
    largest = max(scores[3e-3])
    scores[3e-3][largest] = np.full(4, -np.inf)
    found = exponent({"x": {k: [v] for k, v in cell_drops(sweep(scores), together=True).items()}})
    assert found.low <= 2 <= found.high
    apart = exponent({"x": {k: [v] for k, v in cell_drops(sweep(scores)).items()}})
    assert apart.high < 1.9, "which is what it guards against"
