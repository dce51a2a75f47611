"""The best weight decay by learning rate from a random search over (ln learning rate, ln weight decay).

Scores are modelled as a smooth surface plus noise. The surface is a Gaussian process whose correlations extend along
straight lines of an unknown slope. Surfaces are drawn from its posterior; on each surface, the best weight decay is
read off at several learning rates. A surface has no slope if few of these lie inside the range tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from scipy.special import logsumexp

from replicate.estimate import details, power_law
from replicate.estimate.estimate import Estimate, finite
from replicate.estimate.flags import Flag
from replicate.estimate.seed_curves import matern
from replicate.estimate.softening import hardened, soft
from replicate.landscape.landscape import Floats, Landscape

METHOD = "surfaces drawn from the posterior of a Gaussian process over ln(learning rate) and ln(weight decay)"
LEAST_TRIALS = 8
"""Smallest number of finite scores to which a surface is fitted."""
LEAST_ALONE = 5
"""A random search has at least this number of learning rates with only one weight decay."""
LEAST_WDS = 5
"""Smallest number of different weight decays to which a surface is fitted."""
ZERO_GAP = float(np.log(10))
"""Weight decay 0 is placed this far, in ln, below the smallest positive weight decay."""
LEAN = 0.15
"""The interval of a ratio is widened by this, in ln: the position of an asymmetric peak has the same bias at all
learning rates, on trained landscapes 0.11 and 0.23 on average (`benchmarks/random_search.py`)."""
THINNED = 3
"""Every third of the `GRID` weight decays is a candidate for a further trial."""
RATES = 5
"""Number of learning rates at which surfaces are evaluated, evenly spaced in ln."""
LEAST_RATES = 3
"""A surface has a slope if the best weight decay lies inside the range tried at this many of the `RATES`."""
TRIMMED = 0.08
"""Share of the trials with learning rates below the lowest of the `RATES`; the same share lies above the highest."""
GRID = 48
"""Number of weight decays at which a surface is drawn."""
SLOPES = np.linspace(-3.0, 3.0, 13)
"""Slopes, in ln-ln, of the lines along which correlations extend."""
ACROSS = np.array([0.7, 1.4, 2.8, 5.6])
"""Length scales across the lines of `SLOPES`, in ln(weight decay)."""
ALONG = np.array([1.5, 4.0, 10.0])
"""Length scales along the lines of `SLOPES`, in ln(learning rate)."""
LEVEL = 1.0
"""Variance of an added smooth function of learning rate (length scale: the last `ALONG`) / the surface's variance."""
NOISES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
"""Standard deviations tried for a trial's noise, relative to the surface's, if the noise is not known."""
SOFTENINGS = np.array([0.03, 0.1, 0.3, np.inf])
"""Values tried for the loss, as a share of the largest loss, above which losses count by their logarithm."""
KINDS, EACH = 60, 20
"""Number of models drawn, in proportion to their evidence, and of surfaces drawn from each."""
JITTER = 1e-8


@dataclass(frozen=True)
class Ridge:
    """The best weight decay at several learning rates, on posterior draws of the surface."""

    lrs: Floats
    """[R], the learning rates at which surfaces are evaluated."""
    places: Floats
    """[K, R], ln(best weight decay); infinite where the best weight decay is at an end of the range tried."""
    points: Floats
    """[C, 2], ln(learning rate) and ln(weight decay) of candidates for a further trial."""
    scores: Floats
    """[K, C], scores of the surfaces at `points`, in `unit`."""
    noise: float
    """Standard deviation of a trial's noise where the surface is highest, in `unit`."""
    unit: float
    """The landscape's unit: `Landscape.unit`."""
    trials: int
    """Number of trials with a finite score."""

    def losses(self, rate: int, wd: float) -> Floats:
        """[K], in `unit`: loss of `wd` against the best at the `rate`-th learning rate; NaN outside the range tried."""
        of_rate = slice(rate * len(self.points) // RATES, (rate + 1) * len(self.points) // RATES)
        grid, scores = self.points[of_rate, 1], self.scores[:, of_rate]
        place = np.log(wd)
        if not grid[0] <= place <= grid[-1]:
            return np.full(len(scores), np.nan)
        return np.array([row.max() - np.interp(place, grid, row) for row in scores])

    def at(self, lrs: Sequence[float], level: float = 0.95) -> tuple[Floats, Floats]:
        """Lower and upper limits [N] of ln(best weight decay) at `lrs` [N]; infinite if not bounded.

        On each surface, the best is interpolated between `self.lrs`; beyond them, its fitted line (`lines`) is used.
        """
        x, wanted = np.log(self.lrs), np.log(np.asarray(lrs, dtype=np.float64))
        lines = self.lines
        found = np.full((len(self.places), len(wanted)), np.nan)
        for k, row in enumerate(self.places):
            by_line = lines[k, 2] + lines[k, 0] * (wanted - x.mean())
            with np.errstate(invalid="ignore"):  # interpolation next to an infinite place gives NaN
                between = np.interp(wanted, x, row)
            found[k] = np.where((wanted < x[0]) | (wanted > x[-1]), by_line, between)
        low, high = _between(found, level, widened=LEAN)
        # If all draws lie beyond one end of the range tried, this end is the bound.
        return np.minimum(low, self.points[:, 1].max()), np.maximum(high, self.points[:, 1].min())

    @cached_property
    def lines(self) -> Floats:
        """[K, 3], each surface's line of best ln λ: slope, mean ln(λ / η), ln λ at the mean ln η; NaN if no slope."""
        x = np.log(self.lrs)
        out = np.full((len(self.places), 3), np.nan)
        for k, row in enumerate(self.places):
            inside = np.isfinite(row)
            if inside.sum() >= LEAST_RATES:
                slope, height = np.polyfit(x[inside] - x.mean(), row[inside], 1)
                out[k] = slope, float((row - x)[inside].mean()), height
        return out


def is_search(landscape: Landscape) -> bool:
    """Whether the landscape is a random search rather than a grid: most points are alone at their learning rate."""
    levels = landscape.frame.groupby("lr")["wd"].nunique()
    alone = int((levels == 1).sum())
    return alone >= LEAST_ALONE and alone * 2 >= int(levels.sum())


def all_equal(landscape: Landscape) -> bool:
    """Whether at least two trials have scores and all scores are equal."""
    score = landscape.frame["score"].to_numpy(dtype=np.float64)
    known = score[np.isfinite(score)]
    return len(known) > 1 and bool((known == known[0]).all())


def ridge(landscape: Landscape, rng: np.random.Generator) -> Ridge | None:
    """The best weight decay by learning rate (the ridge of the score surface) in a random search; `rng`: for the draws.

    None with fewer than `LEAST_TRIALS` scores or `LEAST_WDS` weight decays, or if all scores are equal.
    """
    lr, wd, score = (landscape.frame[name].to_numpy(dtype=np.float64) for name in ("lr", "wd", "score"))
    known = np.isfinite(score)
    if known.sum() < LEAST_TRIALS or all_equal(landscape) or len(np.unique(wd[known])) < LEAST_WDS:
        return None
    smallest = float(np.log(wd[wd > 0].min()))
    z, x = np.log(lr), np.where(wd > 0, np.log(np.where(wd > 0, wd, 1.0)), smallest - ZERO_GAP)
    score = score / landscape.unit  # first, as the difference of two huge scores may overflow
    unit = float(np.ptp(score[known]))
    # A diverged trial gets the worst finite score, as it has none.
    score = (np.where(known, score, score[known].min()) - score[known].max()) / unit
    noise_sd = None if landscape.noise_sd is None else landscape.noise_sd / landscape.unit / unit
    first, last = np.quantile(z[known], [TRIMMED, 1 - TRIMMED])
    rates = np.linspace(float(first), float(last), RATES)
    grid = np.linspace(x.min(), x.max(), GRID)
    at = np.repeat(rates, GRID), np.tile(grid, RATES)
    models, log_evidence = _models(z, x, score, noise_sd)
    chosen = rng.choice(len(models), KINDS, p=np.exp(log_evidence - logsumexp(log_evidence)))
    counts = zip(*np.unique(chosen, return_counts=True), strict=True)
    drawn = [(models[i], _drawn(models[i], (z, x), at, EACH * int(count), rng)) for i, count in counts]
    places = [_places(surfaces.reshape(-1, RATES, GRID), grid) for _, surfaces in drawn]
    scores = [model.softened.raw(surfaces[:, ::THINNED]) for model, surfaces in drawn]
    noise = float(np.median([model.amplitude * np.sqrt(np.mean(model.noise)) for model, _ in drawn]))
    points = np.column_stack(at)[::THINNED]
    return Ridge(
        lrs=np.exp(rates),
        places=np.concatenate(places),
        points=points,
        scores=unit * np.concatenate(scores),
        noise=unit * noise,
        unit=landscape.unit,
        trials=int(known.sum()),
    )


@dataclass(frozen=True)
class _Model:
    slope: float
    across: float
    along: float
    amplitude: float
    noise: Floats
    """[N], variances of the trials' noise, relative to the surface's."""
    softened: _Softened


def _models(z: Floats, x: Floats, score: Floats, noise_sd: float | None) -> tuple[list[_Model], Floats]:
    """Every model and its log-evidence, with the likeliest amplitude of the surface."""
    models: list[_Model] = []
    evidence: list[float] = []
    softened = [_Softened.of(score, share) for share in SOFTENINGS]
    for tilt, across, along in product(SLOPES, ACROSS, ALONG):
        among = _correlation((z, x), (z, x), tilt, across, along)
        if noise_sd is None:
            values, vectors = np.linalg.eigh(among)  # shared by all softenings and noise levels
        for one in softened:
            levels, shape = NOISES**2, np.ones(len(z))
            if noise_sd is not None:
                levels, shape = np.ones(1), (noise_sd * one.slope / np.std(one.y)) ** 2
                values, vectors = np.linalg.eigh(among / np.sqrt(shape[:, None] * shape))
            root = np.sqrt(shape)
            spread = np.maximum(values, 0) + JITTER + levels[:, None]
            amplitude = np.sqrt(((vectors.T @ (one.y / root)) ** 2 / spread).mean(axis=1))
            found = -len(z) * np.log(amplitude) - 0.5 * np.log(spread).sum(axis=1) - np.log(root).sum() + one.jacobian
            evidence += found.tolist()
            models += [
                _Model(tilt, across, along, float(a), level * shape, one)
                for a, level in zip(amplitude, levels, strict=True)
            ]
    return models, np.array(evidence)


@dataclass(frozen=True)
class _Softened:
    """Scores with large losses replaced by their logarithms, so that a smooth surface can follow a cliff."""

    y: Floats
    """[N], the softened scores, minus their mean."""
    slope: Floats
    """[N], derivative of `y` with respect to the score."""
    best: float
    """The best score."""
    top: float
    """The value of `y` at the best score."""
    softening: float
    """Loss beyond which losses count by their logarithm."""

    @classmethod
    def of(cls, score: Floats, share: float) -> _Softened:
        """`score` [N], in which losses against the best above `share` of the largest loss count by their logarithm.

        An infinite `share` changes none.
        """
        loss = score.max() - score
        if np.isinf(share):
            return cls(loss.mean() - loss, np.ones(len(loss)), float(score.max()), float(loss.mean()), np.inf)
        softening = share * float(loss.max())
        y = soft(-loss, softening)
        return cls(y - y.mean(), 1 / (1 + loss / softening), float(score.max()), float(-y.mean()), softening)

    def raw(self, y: Floats) -> Floats:
        """The scores with values `y`, any shape: the inverse transform."""
        return self.best + hardened(y - self.top, self.softening)

    @property
    def jacobian(self) -> float:
        """Logarithm of the transform's Jacobian."""
        return float(np.log(self.slope).sum())


def _correlation(a: Sequence[Floats], b: Sequence[Floats], tilt: float, across: float, along: float) -> Floats:
    """[N, M], prior covariance between points `a` [N] and `b` [M]: that of the surface (variance 1) plus `LEVEL`'s."""
    dz, dx = a[0][:, None] - b[0][None, :], a[1][:, None] - b[1][None, :]
    surface = matern(np.abs(dz), along) * matern(np.abs(dx - tilt * dz), across)
    return surface + LEVEL * matern(np.abs(dz), float(ALONG[-1]))


def _drawn(model: _Model, runs: Sequence[Floats], at: Sequence[Floats], count: int, rng: np.random.Generator) -> Floats:
    """[`count`, M], posterior draws of the surface under `model` at the points `at`, given its trials at `runs`."""
    shape = model.slope, model.across, model.along
    among = _correlation(runs, runs, *shape) + np.diag(model.noise + JITTER)
    to_runs = _correlation(at, runs, *shape)
    gain = np.linalg.solve(among, to_runs.T).T
    left = _correlation(at, at, *shape) - gain @ to_runs.T
    root = np.linalg.cholesky(left + 1e-6 * np.eye(len(left)))
    return np.asarray(gain @ model.softened.y + model.amplitude * rng.standard_normal((count, len(left))) @ root.T)


def _places(surfaces: Floats, grid: Floats) -> Floats:
    """[K, R], the best of `grid` on each of `surfaces` [K, R, GRID]; infinite at its ends."""
    best = surfaces.argmax(axis=-1)
    places = grid[best]
    return np.where(best == 0, -np.inf, np.where(best == len(grid) - 1, np.inf, places))


def slope(found: Ridge, level: float = 0.95) -> Estimate:
    """Slope of ln(best weight decay) on ln(learning rate) in a random search.

    Args:
        found: The best weight decays, as `ridge` gives them.
        level: Level of the interval between quantiles of the draws, 0 to 1.

    Returns:
        Not bounded (`few-optima`) if too many draws have no slope.
    """
    return _estimate("slope", found, found.lines[:, 0], level)


def ratio(found: Ridge, level: float = 0.95, quantity: str = "rho") -> Estimate:
    """Best weight decay over learning rate, geometric mean over learning rates where the best is inside the range
    tried.

    Args:
        found: The best weight decays, as `ridge` gives them.
        level: Level of the interval between quantiles of the draws, 0 to 1; it is widened by `LEAN`.
        quantity: Name of the estimate.
    """
    in_logs = _estimate(quantity, found, found.lines[:, 1], level, widened=LEAN)
    of_slope, flags = slope(found, level), in_logs.flags
    if (varies := power_law.varying(of_slope.value, of_slope.low, of_slope.high, np.log(found.lrs), LEAN)) is not None:
        flags = (*flags, varies)
    together = 1 - (1 - level) / len(found.lrs)
    (low, high), (near, far) = (found.at(found.lrs.tolist(), at) for at in (together, 0.5))
    middle = np.median(found.places, axis=0)
    rows = tuple(
        details.RatioAt(
            lr=float(lr),
            value=finite(np.exp(middle[i]) / lr) or None,
            low=finite(np.exp(low[i]) / lr) or None,
            high=finite(np.exp(high[i]) / lr),
            likely=(finite(np.exp(near[i]) / lr), finite(np.exp(far[i]) / lr)),
        )
        for i, lr in enumerate(found.lrs)
        if np.isfinite([low[i], high[i]]).all()
    )
    return replace(
        in_logs,
        value=None if in_logs.value is None else float(np.exp(in_logs.value)),
        low=float(np.exp(in_logs.low)),
        high=float(np.exp(in_logs.high)),
        flags=flags,
        details=details.Ratio(per_lr=(), ratios_together=rows),
    )


def _estimate(quantity: str, found: Ridge, values: Floats, level: float, widened: float = 0.0) -> Estimate:
    """The median of the draws' `values` [K], with the interval between their quantiles."""
    (low,), (high,) = _between(values[:, None], level, widened)
    is_open = bool(np.isinf([low, high]).any())
    value = None if is_open else float(np.nanmedian(values))
    flags = (Flag.FEW_OPTIMA,) if is_open else ()
    settle = "more trials, on both sides of the best weight decay" if is_open else "more trials"
    return Estimate(quantity, "", value, float(low), float(high), level, found.trials, METHOD, flags, settle)


def _between(values: Floats, level: float, widened: float = 0.0) -> tuple[Floats, Floats]:
    """Lower and upper quantiles [N] of draws `values` [K, N]; NaN counts as -inf below and as inf above."""
    tail, lacking = (1 - level) / 2, np.isnan(values)
    low = np.quantile(np.where(lacking, -np.inf, values), tail, axis=0, method="inverted_cdf")
    high = np.quantile(np.where(lacking, np.inf, values), 1 - tail, axis=0, method="inverted_cdf")
    return low - widened, high + widened
