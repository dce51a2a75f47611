"""What runs of one seed share: the restricted likelihood against a textbook formula, laws, and simulated seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from replicate.estimate import seed_curves
from replicate.estimate.noise import additive_fit
from replicate.estimate.seed_curves import LENGTHS, SHARES, Scores, matern, one_seed_covariance, shared_noise

Floats = NDArray[np.float64]
X = np.arange(7) * np.log(3)


def slices(
    share: float, length: float, *, seeds: int = 5, count: int = 6, seed: int = 0, spread: float = 5.0
) -> list[Scores]:
    """Seeds whose runs have variance 0.09, `share` of it a smooth curve, on means and levels that must not matter."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(
        (1 - share) * np.eye(len(X)) + share * matern(np.abs(X[:, None] - X[None, :]), length) + 1e-9 * np.eye(len(X))
    )
    found = []
    for _ in range(count):
        noise = 0.3 * root @ rng.standard_normal((len(X), seeds))
        scores = rng.normal(70, spread, (len(X), 1)) + rng.normal(0, 2, (1, seeds)) + noise
        found.append(Scores(X, scores, np.full(len(X), 0.09)))
    return found


def restricted_log_likelihood(s: Scores, share: float, length: float) -> float:
    """Harville's formula (1974) for one slice with its variance known, from the full covariance; constants left out."""
    w, seed = np.nonzero(np.isfinite(s.scores))
    y = s.scores[w, seed]
    design = np.zeros((len(y), len(s.x) + s.scores.shape[1] - 1))
    design[np.arange(len(y)), w] = 1
    later = seed > 0
    design[np.nonzero(later)[0], len(s.x) + seed[later] - 1] = 1
    correlation = (1 - share) * np.eye(len(s.x)) + share * matern(np.abs(s.x[:, None] - s.x[None, :]), length)
    full = np.sqrt(s.variance[w][:, None] * s.variance[w][None, :]) * correlation[w[:, None], w[None, :]]
    full = np.where(seed[:, None] == seed[None, :], full, 0.0)
    inverse = np.linalg.inv(full)
    information = design.T @ inverse @ design
    projection = inverse - inverse @ design @ np.linalg.solve(information, design.T @ inverse)
    return float(-0.5 * (np.linalg.slogdet(full)[1] + np.linalg.slogdet(information)[1] + y @ projection @ y))


@pytest.mark.parametrize("missing", [0, 6])
def test_the_likelihood_is_the_textbook_one(missing: int) -> None:
    (one,) = slices(0.6, 2.4, seeds=4, count=1)
    one.variance[:] *= np.linspace(0.5, 2, 7)
    one.scores.ravel()[np.random.default_rng(1).permutation(one.scores.size)[:missing]] = np.nan
    weights, factor, informed = seed_curves._weights([one])
    assert informed
    dof = np.isfinite(one.scores).sum() - len(X) - 4 + 1
    for (i, j), (k, m) in [((0, 0), (2, 1)), ((5, 4), (3, 0)), ((1, 2), (4, 3))]:
        scaled = [
            restricted_log_likelihood(Scores(X, one.scores, one.variance * factor[a, b]), SHARES[a], LENGTHS[b])
            for a, b in ((i, j), (k, m))
        ]
        # The variance is profiled out; Harville's determinants carry it too.
        assert np.log(weights[i, j] / weights[k, m]) == pytest.approx(scaled[0] - scaled[1], abs=1e-6)
        assert dof > 0


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.0, 0.25), (0.9, 0.7, 0.96)])
def test_the_share_is_found(share: float, low: float, high: float) -> None:
    found = [shared_noise(slices(share, 2.4, seed=seed)).share for seed in range(8)]
    assert low <= np.median(found) <= high


def test_independent_runs_have_the_covariance_of_their_means() -> None:
    found = [shared_noise(slices(0.0, 1.0, seed=seed)).covariances[0] for seed in range(12)]
    expected = 0.09 / 5 * (np.eye(7) - 1 / 7)
    assert np.mean(found, axis=0) == pytest.approx(expected, abs=0.12 * 0.09 / 5)


def test_errors_of_means_are_as_large_as_said() -> None:
    """The scatter over seeds of the difference between the two ends of a slice, against what is said of its mean."""
    errors, stated = [], []
    for seed in range(40):
        cell = slices(0.8, 2.4, seeds=3, seed=seed)
        for s, covariance in zip(cell, shared_noise(cell).covariances, strict=True):
            errors.append(np.var(s.scores[-1] - s.scores[0], ddof=1) / 3)
            stated.append(covariance[0, 0] + covariance[-1, -1] - 2 * covariance[0, -1])
    assert np.mean(stated) == pytest.approx(np.mean(errors), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.8])
def test_errors_of_means_with_missing_runs_are_as_large_as_said(share: float) -> None:
    """Every fifth run missing: squared errors of differences between means freed of the seeds' levels."""
    rng = np.random.default_rng(7)
    errors, stated = [], []
    for seed in range(40):
        cell = slices(share, 2.4, seeds=3, seed=seed, spread=0.0)
        for s in cell:
            missing = rng.random(s.scores.shape) < 0.2
            missing[:, 0] = False
            s.scores[missing] = np.nan
        for s, covariance in zip(cell, shared_noise(cell).covariances, strict=True):
            error = additive_fit(s.scores).mean
            errors.append(np.subtract.outer(error, error) ** 2)
            variance = np.diag(covariance)
            stated.append(variance[:, None] + variance[None, :] - 2 * covariance)
    # Its own mean over 240 slices of 42 differences, of which a few are independent.
    assert np.mean(stated) == pytest.approx(np.mean(errors), rel=0.15)


@given(st.integers(0, 50), st.floats(0.01, 100), st.integers(0, 8))
def test_units_levels_and_order_do_not_matter(seed: int, unit: float, missing: int) -> None:
    rng = np.random.default_rng(seed)
    (one,) = slices(0.6, 2.4, seeds=4, count=1, seed=seed)
    one.scores.ravel()[rng.permutation(one.scores.size)[:missing]] = np.nan
    one.scores[:, 0] = np.where(np.isfinite(one.scores).any(axis=1), one.scores[:, 0], 70.0)
    before = shared_noise([one])
    moved = unit * (one.scores[:, ::-1] + rng.normal(0, 3, (7, 1)) + rng.normal(0, 3, (1, 4)))
    after = shared_noise([Scores(X, moved, one.variance * unit**2)])
    assert after.covariances[0] == pytest.approx(unit**2 * before.covariances[0], rel=1e-5, abs=1e-9 * unit**2)
    assert after.share == pytest.approx(before.share, abs=1e-6)


@given(st.integers(0, 50))
def test_a_covariance_is_one_of_deviations(seed: int) -> None:
    for covariance in shared_noise(slices(0.6, 1.4, seeds=3, count=2, seed=seed)).covariances:
        assert covariance == pytest.approx(covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > -1e-12
        assert covariance.sum(axis=0) == pytest.approx(np.zeros(7), abs=1e-12)


def test_one_seed_is_taken_to_have_a_curve_of_its_own() -> None:
    covariance = one_seed_covariance(X, np.full(7, 0.04))
    ends = covariance[0, 0] + covariance[-1, -1] - 2 * covariance[0, -1]
    assert ends > 2 * 0.04 * 3


def test_many_runs_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = slices(0.6, 2.4, seeds=60, count=1)
    whole = shared_noise(cell).share
    monkeypatch.setattr(seed_curves, "MOST_RUNS", 70)
    assert shared_noise(cell).share == shared_noise([Scores(X, cell[0].scores[:, :10], cell[0].variance)]).share
    assert whole == pytest.approx(0.6, abs=0.3)


def test_no_share_is_told_where_nothing_tells_it() -> None:
    rng = np.random.default_rng(0)
    alike = np.tile(rng.normal(70, 1, (7, 1)), (1, 3))
    assert np.isnan(shared_noise([Scores(X, alike, np.full(7, 1e-8))]).share)
    apart = np.full((7, 7), np.nan)
    np.fill_diagonal(apart, 70.0)  # a seed of its own for each weight decay
    assert np.isnan(shared_noise([Scores(X, apart, np.full(7, 0.09))]).share)


def test_the_fullest_seeds_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = slices(0.6, 2.4, seeds=4, count=1)
    sparse = np.full((7, 2), np.nan)
    sparse[0] = 70.0
    monkeypatch.setattr(seed_curves, "MOST_RUNS", 28)
    found = shared_noise([Scores(X, np.hstack([sparse, one.scores]), one.variance)])
    assert found.share == pytest.approx(shared_noise([one]).share)
