"""Reachability against brute force written another way, and on tables whose truth is known."""

from __future__ import annotations

import dataclasses
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from replicate.audit import grid, reachability
from replicate.audit.finding import CONSISTENT, DECISION_INCONSISTENT, NotStated
from replicate.audit.reachability import FITS, MOST, assignment, enumerate_fits, reach
from replicate.audit.reported import Measured, Printed, RatioRow, Reported
from replicate.audit.subject import published

Grid = reachability.Grid
SMALL: Grid = (
    (1e-3, (0.0, 1e-4, 3e-4)),
    (3e-3, (1e-4, 3e-4)),
    (1e-2, (0.0, 3e-4, 1e-3, 3e-3)),
)
"""Ragged, with 0 among the weight decays."""


def number(value: float, digits: int) -> Printed:
    return Printed(f"{value:.{digits}f}")


def row_of(rho: float, r2: float, slope: float, digits: int = 3) -> RatioRow:
    printed = {"slope": Measured(number(slope, digits)), "r2": number(r2, digits)}
    return RatioRow("a", "x", Measured(number(rho, digits)), **printed)


def by_hand(lrs: list[float], wds: tuple[float, ...]) -> dict[str, float]:
    """The fits of one assignment from SciPy's and NumPy's own least squares."""
    x, y = np.array(lrs), np.array(wds)
    rho = float(np.linalg.lstsq(x[:, None], y, rcond=None)[0][0])
    left = float(((y - rho * x) ** 2).sum())
    spread = float(((y - y.mean()) ** 2).sum()) if len(set(wds)) > 1 else 0.0
    free = stats.linregress(x, y)
    return {
        "rho": rho,
        "r2_mean": 1 - left / spread if spread else 0.0,
        "r2_zero": 1 - left / float((y**2).sum()) if y.any() else 0.0,
        "rho_free": float(free.slope),
        "r2_free": float(free.rvalue**2) if spread else 0.0,
        "slope": float(np.polyfit(np.log(x), np.log(y), 1)[0]) if (y > 0).all() else math.nan,
    }


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # linregress on equal values
@pytest.mark.parametrize(
    "grid_", [SMALL, ((1e-3, (0.01, 0.02)), (1e-2, (0.0, 0.01)), (0.1, (0.01,)), (1.0, (0.3, 7.0)))]
)
def test_fits_against_brute_force(grid_: Grid) -> None:
    fits = enumerate_fits(grid_)
    lrs = [lr for lr, _ in grid_]
    every = list(product(*(wds for _, wds in grid_)))
    assert len(every) == len(fits.rho)
    for i, wds in enumerate(every):
        assert assignment(grid_, i) == wds
        for name, value in by_hand(lrs, wds).items():
            assert getattr(fits, name)[i] == pytest.approx(value, abs=1e-9, nan_ok=True), (name, wds)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(st.integers(0, 10**6))
def test_counts_against_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    row = row_of(float(rng.uniform(0, 0.4)), float(rng.uniform(-0.5, 1)), float(rng.uniform(-1, 2)), digits=1)
    assert row.r2 is not None
    assert row.slope is not None
    lrs = [lr for lr, _ in SMALL]
    counts = [0, 0, 0]
    for wds in product(*(w for _, w in SMALL)):
        fit = by_hand(lrs, wds)
        like = [
            abs(fit["rho"] - row.rho.value.value) <= 0.05 + 1e-9,
            abs(fit["r2_mean"] - row.r2.value) <= 0.05 + 1e-9,
            abs(fit["slope"] - row.slope.value.value) <= 0.05 + 1e-9,
        ]
        for k in range(3):
            counts[k] += all(like[: k + 1])
    found = reach(row, SMALL, FITS[0])
    assert [found.rho, found.rho_r2, found.all_three] == counts


@given(st.integers(0, 10**6))
def test_a_true_row_is_never_flagged(seed: int) -> None:
    """A table made from some assignment is reachable whatever its rounding."""
    rng = np.random.default_rng(seed)
    fits = enumerate_fits(SMALL)
    i = int(rng.choice(np.nonzero(np.isfinite(fits.slope))[0]))
    row = row_of(fits.rho[i], fits.r2_mean[i], fits.slope[i], digits=int(rng.integers(1, 6)))
    assert reachability.find(Reported("true", SMALL, (row,)), row).outcome == CONSISTENT


def test_a_spoilt_row_is_flagged_at_a_stated_rate() -> None:
    """R² moved by twenty units of its last digit, to a value below 1: nearly always seen."""
    rng = np.random.default_rng(0)
    grid_: Grid = tuple((lr, tuple(0.1 * lr * k for k in (0.2, 0.5, 1.0, 2.0, 5.0))) for lr in (1e-4, 1e-3, 3e-3, 1e-2))
    fits = enumerate_fits(grid_)
    seen = []
    for i in rng.choice(len(fits.rho), size=200, replace=False):
        row = row_of(fits.rho[i], fits.r2_mean[i] - 0.02, fits.slope[i])
        seen.append(reachability.find(Reported("spoilt", grid_, (row,)), row).outcome != CONSISTENT)
    assert np.mean(seen) > 0.95


def test_the_paper_by_hand() -> None:
    """What needs no enumeration: every best weight decay above 0 is at least 0.001, so the ratio is at least 0.131."""
    paper = published()
    fits = enumerate_fits(paper.grid)
    assert len(fits.rho) == 8**6
    lrs = paper.lrs
    smallest = 0.001 * lrs.sum() / (lrs**2).sum()
    assert fits.rho[np.isfinite(fits.slope)].min() == pytest.approx(smallest)
    assert smallest > max(row.rho.value.high for row in paper.ratios)
    for row in paper.ratios:
        finding = reachability.find(paper, row)
        assert finding.outcome == DECISION_INCONSISTENT
        assert "at least 0.131" in finding.evidence
        for fit in FITS:
            found = reach(row, paper.grid, fit)
            assert found.rho > 0
            assert found.rho_r2 == found.all_three == 0


def test_severity_asks_the_rows_own_intervals() -> None:
    grid_: Grid = ((1e-3, (1e-4, 2e-4)), (1e-2, (1e-3, 2e-3)))
    near = RatioRow("a", "x", Measured(Printed("0.105"), Printed("0.09"), Printed("0.12")), r2=Printed("0.99"))
    far = RatioRow("a", "x", Measured(Printed("0.150"), Printed("0.14"), Printed("0.16")), r2=Printed("0.99"))
    outcomes = [reachability.find(Reported("p", grid_, (row,)), row).outcome for row in (near, far)]
    assert outcomes == ["inconsistent", "decision-inconsistent"]


def test_too_many_assignments_are_refused_in_words() -> None:
    huge: Grid = tuple((10.0**-k, tuple(np.linspace(0.1, 1, 12))) for k in range(7))
    with pytest.raises(NotStated, match=f"a grid of at most {MOST:,} assignments .* not 35,831,808"):
        enumerate_fits(huge)
    with pytest.raises(NotStated, match="at least two learning rates"):
        enumerate_fits(((0.1, (0.1,)),))


class TestGrid:
    def test_pairs_of_the_paper(self) -> None:
        assert grid.pairs_on_grid(published()) == [(1e-3, 10.0), (1e-2, 1.0), (1e-2, 5.0), (1e-2, 10.0)]
        assert grid.rates_on_line(published(), 0.1) == [1e-2]
        assert grid.rates_on_line(published(), 0.005) == []

    def test_inert_pairs_of_the_paper(self) -> None:
        """Counted by rounding in float32 itself."""
        paper = published()
        kappas = sorted({*paper.kappas, 1.0})
        inert = [
            (float(lr), k) for lr in paper.lrs for k in kappas if np.float32(1 - lr * k * 0.1 * lr) == np.float32(1)
        ]
        finding = grid.inert_decay(paper)
        assert finding.details["inert"] == [list(pair) for pair in inert]
        assert len(inert) == 21
        assert "16 of 36 drops" in finding.evidence
        assert finding.outcome == DECISION_INCONSISTENT

    def test_larger_weight_decays_are_not_inert(self) -> None:
        paper = published()
        larger = tuple(dataclasses.replace(f, measured=Measured(Printed("100"))) if f.name == "rho" else f
                       for f in paper.figures)  # fmt: skip
        assert grid.inert_decay(dataclasses.replace(paper, figures=larger)).outcome == CONSISTENT

    def test_sgd(self) -> None:
        finding = grid.sgd_line(published())
        assert finding.outcome == DECISION_INCONSISTENT
        assert "5 of 262,144 assignments" in finding.evidence
