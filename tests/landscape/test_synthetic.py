"""Synthetic landscapes: what is asked for is what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from replicate.landscape.synthetic import CENTER_LR, SHAPES, Truth, bracket_grid, draw, paper_grid, ratio_grid
from replicate.paper.protocol import KAPPAS, LRS, SEEDS, WEIGHT_DECAYS
from replicate.paper.tables import TABLE_2

FINE = np.exp(np.linspace(-20, 6, 5201))


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_lose_nothing_at_the_optimum_and_more_further_out(name: str) -> None:
    """`tolerance` is flat within a factor 2 and levels are allowed elsewhere; no shape turns back up."""
    x = np.linspace(-5, 5, 1001)
    lost = SHAPES[name](x)
    assert SHAPES[name](np.zeros(1))[0] == pytest.approx(0, abs=1e-12)
    assert (np.diff(lost[x >= 0]) >= 0).all()
    assert (np.diff(lost[x <= 0]) <= 0).all()
    assert lost[-1] > 0.5
    assert lost[0] > 0.5 or name == "plateau"


def test_the_default_shape_is_table_2() -> None:
    """CIFAR-100's drops, averaged over the two sides, at factors 2, 5 and 10."""
    for factor in (2.0, 5.0, 10.0):
        drops = [r.drop("cifar100").value for r in TABLE_2 if r.kappa in (factor, 1 / factor)]
        assert len(drops) == 2
        assert SHAPES["table-2"](np.log([factor]))[0] == pytest.approx(np.mean(drops), abs=0.1)


@given(st.floats(-2, 2), st.floats(1e-4, 1e3), st.sampled_from(LRS))
@settings(max_examples=40, deadline=None)
def test_the_best_weight_decay_is_a_power_of_the_learning_rate(slope: float, rho: float, lr: float) -> None:
    truth = Truth(rho=rho, slope=slope)
    assert truth.best_wd(CENTER_LR) == pytest.approx(rho * CENTER_LR)
    assert math.log(truth.best_wd(10 * lr) / truth.best_wd(lr)) == pytest.approx(slope * math.log(10), abs=1e-9)


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"tolerance", "plateau", "mesa"}))
def test_accuracy_is_largest_at_the_best_weight_decay(name: str) -> None:
    truth = Truth(shape=name, slope=0.5)
    for lr in LRS:
        best = FINE[truth.accuracy(lr, FINE.tolist()).argmax()]
        assert math.log(best / truth.best_wd(lr)) == pytest.approx(0, abs=0.006)


def test_accuracy_by_hand() -> None:
    truth = Truth(shape="quadratic", depth=2, peak_pp=80, lr_drop_pp=3, rho=0.1)
    expected = 80 - 3 * math.log(10) ** 2 - 2 * 0.62 * math.log(5) ** 2
    assert truth.accuracy(1e-2, [5e-3])[0] == pytest.approx(expected)
    assert truth.accuracy(1e-2, [1e3])[0] == 1.0  # no worse than chance
    # Weight decay 0 stands for a thousandth of the smallest other one, and for nothing where it is alone.
    with_zero = truth.accuracy(1e-2, [0.0, 1e-3, 1e-1])
    assert with_zero[0] == truth.accuracy(1e-2, [1e-6])[0]
    assert np.isfinite(truth.accuracy(1e-2, [0.0])).all()


def test_depth_zero_is_flat() -> None:
    assert np.ptp(Truth(depth=0).accuracy(1e-3, WEIGHT_DECAYS)) == 0


def test_grids() -> None:
    assert paper_grid(1e-3) == WEIGHT_DECAYS
    assert ratio_grid(3e-4) == pytest.approx([k * 3e-5 for k in KAPPAS])
    assert ratio_grid(3.33e-4)[3] == 3.33e-5  # three digits


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_bracket_surrounds_the_optimum_at_varying_phase(factor: float) -> None:
    truth = Truth(slope=0.7)
    phases = []
    for lr in LRS:
        wds = np.array(bracket_grid(truth, factor, 2)(lr))
        assert len(wds) == 5
        np.testing.assert_allclose(wds[1:] / wds[:-1], factor, rtol=2e-3)
        offsets = np.log(wds / truth.best_wd(lr)) / math.log(factor)
        assert abs(offsets[2]) <= 0.5 + 1e-3
        phases.append(offsets[2])
    assert np.ptp(phases) > 0.3


# ---------------------------------------------------------------- draws


def test_a_landscape_has_every_run_of_its_grid_once() -> None:
    landscape = draw(Truth(), paper_grid, np.random.default_rng(0), arch="a", dataset="d")
    assert len(landscape.frame) == len(LRS) * len(WEIGHT_DECAYS) * len(SEEDS)
    assert (landscape.arch, landscape.dataset, landscape.metric, landscape.synthetic) == ("a", "d", "accuracy", True)
    for cut, lr in zip(landscape.slices(), LRS, strict=True):
        assert (cut.lr, tuple(cut.wds)) == (lr, WEIGHT_DECAYS)
        assert np.isfinite(cut.scores).all()


def test_a_grid_that_repeats_itself_is_run_once() -> None:
    def twice(lr: float) -> Sequence[float]:
        return (0.3, 0.1, 0.3)

    assert draw(Truth(), twice, np.random.default_rng(0)).slices()[0].wds.tolist() == [0.1, 0.3]


def test_the_same_generator_draws_the_same_landscape() -> None:
    first, second = (draw(Truth(), paper_grid, np.random.default_rng(5), missing=0.2).frame for _ in range(2))
    assert first.equals(second)
    assert not first.equals(draw(Truth(), paper_grid, np.random.default_rng(6), missing=0.2).frame)


def test_without_noise_scores_are_the_expected_accuracy() -> None:
    truth = Truth(seed_sd_pp=0, noise_sd_pp=0)
    for cut in draw(truth, paper_grid, np.random.default_rng(0)).slices():
        np.testing.assert_allclose(cut.scores, np.tile(truth.accuracy(cut.lr, WEIGHT_DECAYS)[:, None], 5))


@pytest.mark.parametrize("noise", ["normal", "heteroscedastic"])
def test_noise_has_the_deviations_asked_for(noise: str) -> None:
    """4,000 seeds of one flat learning rate: a standard deviation is known to 1.1 %, three times that is 3.4 %."""
    truth = Truth(depth=0, seed_sd_pp=0.5, noise_sd_pp=0.3, noise=noise)
    (cut,) = draw(truth, paper_grid, np.random.default_rng(1), lrs=(1e-3,), seeds=range(4000)).slices()
    residual = cut.scores - truth.accuracy(1e-3, WEIGHT_DECAYS)[:, None]
    common = residual.mean(axis=0)
    assert common.std() == pytest.approx(math.hypot(0.5, 0.3 / math.sqrt(8)), rel=0.034)
    assert (residual - common).std() == pytest.approx(0.3 * math.sqrt(7 / 8), rel=0.02)


def test_heavy_tails_have_the_deviation_asked_for_and_the_tails() -> None:
    """t with 3 degrees of freedom scaled to 0.3 pp: quantiles to within 5 %, and a normal's would be 30 % off."""
    truth = Truth(depth=0, seed_sd_pp=0, noise="student")
    (cut,) = draw(truth, paper_grid, np.random.default_rng(2), lrs=(1e-3,), seeds=range(4000)).slices()
    residual = (cut.scores - truth.accuracy(1e-3, WEIGHT_DECAYS)[:, None]).ravel()
    for q in (0.75, 0.95, 0.99):
        assert np.quantile(residual, q) == pytest.approx(0.3 * stats.t.ppf(q, 3) / math.sqrt(3), rel=0.05)


def test_heteroscedastic_noise_grows_away_from_the_optimum() -> None:
    truth = Truth(seed_sd_pp=0, noise="heteroscedastic", shape="quadratic")
    (cut,) = draw(truth, ratio_grid, np.random.default_rng(3), lrs=(1e-3,), seeds=range(3000)).slices()
    lost = truth.accuracy(1e-3, ratio_grid(1e-3)).max() - truth.accuracy(1e-3, ratio_grid(1e-3))
    np.testing.assert_allclose(cut.scores.std(axis=1), 0.3 * (1 + np.minimum(lost, 3)), rtol=0.06)


def test_missing_rows_are_left_out_at_random() -> None:
    landscape = draw(Truth(), paper_grid, np.random.default_rng(4), seeds=range(50), missing=0.2)
    kept = len(landscape.frame) / (6 * 8 * 50)
    assert kept == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / 2400))
    assert landscape.frame["score"].notna().all()


def test_diverged_runs_have_no_score() -> None:
    frame = draw(Truth(), paper_grid, np.random.default_rng(5), diverged_above=1e-4).frame
    lost = (frame["lr"] * frame["wd"] > 1e-4).to_numpy()
    assert 0 < lost.sum() < len(frame)
    np.testing.assert_array_equal(frame["diverged"], lost)
    np.testing.assert_array_equal(frame["score"].isna(), lost)


def test_unknown_noise_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match="noise: expected one of normal, student, heteroscedastic, curves, shifted, two-faced; got 'pink'",
    ):
        draw(Truth(noise="pink"), paper_grid, np.random.default_rng(0))
