"""A random search: trials at points of (ln learning rate, ln weight decay) to where the best weight decay lies.

Scores are a smooth surface, a Gaussian process whose correlations run along straight lines of an unknown slope, plus
noise. Surfaces are drawn from its posterior; on each, the best weight decay is read off at some learning rates. A
surface on which it lies inside of what was tried at too few of them says nothing of a slope.
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
"""Fewer finite scores than these, and nothing is fitted."""
LEAST_ALONE = 5
"""Learning rates with one weight decay each that make a random search."""
LEAST_WDS = 5
"""Fewer different weight decays than these, and no surface can place the best one."""
ZERO_GAP = float(np.log(10))
"""How far below the smallest other weight decay 0 stands, in ln."""
LEAN = 0.15
"""By how much a ratio is widened, in ln: the peak of a lopsided surface is placed wrongly at all learning rates alike,
on trained landscapes by 0.11 and 0.23 on the average (`benchmarks/random_search.py`)."""
THINNED = 3
"""Every third point of `GRID` is a candidate for a further trial."""
RATES = 5
"""Number of learning rates at which surfaces are read, evenly spaced in ln."""
LEAST_RATES = 3
"""A surface on which fewer of them have their best weight decay inside of what was tried has no slope."""
TRIMMED = 0.08
"""Share of the trials on either side of the learning rates at which surfaces are read."""
GRID = 48
"""Weight decays at which a surface is drawn."""
SLOPES = np.linspace(-3.0, 3.0, 13)
"""Slopes of the lines of correlation, in ln-ln."""
ACROSS = np.array([0.7, 1.4, 2.8, 5.6])
"""Length scales across these lines, in ln(weight decay)."""
ALONG = np.array([1.5, 4.0, 10.0])
"""Length scales along these lines, in ln(learning rate)."""
LEVEL = 1.0
"""Variance of the level of a learning rate, that of the surface being 1; varies over the last of `ALONG`."""
NOISES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
"""Standard deviations of a trial's noise, that of the surface being 1, where it is not known."""
SOFTENINGS = np.array([0.03, 0.1, 0.3, np.inf])
"""Losses, as shares of the largest one, from which on they count by their logarithm: tried, as lengths are."""
KINDS, EACH = 60, 20
"""Numbers of draws: of models, by their evidence, and of surfaces from each model."""
JITTER = 1e-8


@dataclass(frozen=True)
class Ridge:
    """Where the best weight decay lies along the learning rates, by draws of the surface."""

    lrs: Floats
    """[R], the learning rates at which it is read."""
    places: Floats
    """[K, R], ln(best weight decay); infinite where it lies at the end of what was tried."""
    points: Floats
    """[C, 2], ln(learning rate) and ln(weight decay) of candidates for a further trial."""
    scores: Floats
    """[K, C], the surfaces there, in `unit`."""
    noise: float
    """Standard deviation of a trial's noise where the surface is highest, in `unit`."""
    unit: float
    """That of the landscape: `Landscape.unit`."""
    trials: int

    def losses(self, rate: int, wd: float) -> Floats:
        """[K], in `unit`: what `wd` loses against the best at the `rate`-th learning rate; NaN beyond those tried."""
        of_rate = slice(rate * len(self.points) // RATES, (rate + 1) * len(self.points) // RATES)
        grid, scores = self.points[of_rate, 1], self.scores[:, of_rate]
        place = np.log(wd)
        if not grid[0] <= place <= grid[-1]:
            return np.full(len(scores), np.nan)
        return np.array([row.max() - np.interp(place, grid, row) for row in scores])

    def at(self, lrs: Sequence[float], level: float = 0.95) -> tuple[Floats, Floats]:
        """[N] and [N]: between which the best weight decay lies at `lrs` [N], in ln; infinite where open.

        Read off each surface between the learning rates of `places`, and off its line beyond.
        """
        x, wanted = np.log(self.lrs), np.log(np.asarray(lrs, dtype=np.float64))
        lines = self.lines
        found = np.full((len(self.places), len(wanted)), np.nan)
        for k, row in enumerate(self.places):
            by_line = lines[k, 2] + lines[k, 0] * (wanted - x.mean())
            with np.errstate(invalid="ignore"):  # between an open place and another there is none
                between = np.interp(wanted, x, row)
            found[k] = np.where((wanted < x[0]) | (wanted > x[-1]), by_line, between)
        low, high = _between(found, level, widened=LEAN)
        # All draws beyond one end of what was tried: the end is the bound.
        return np.minimum(low, self.points[:, 1].max()), np.maximum(high, self.points[:, 1].min())

    @cached_property
    def lines(self) -> Floats:
        """[K, 3], slope, mean ln(weight decay / learning rate), and ln(weight decay) at the mean ln(learning rate).

        NaN where a surface has no line.
        """
        x = np.log(self.lrs)
        out = np.full((len(self.places), 3), np.nan)
        for k, row in enumerate(self.places):
            inside = np.isfinite(row)
            if inside.sum() >= LEAST_RATES:
                slope, height = np.polyfit(x[inside] - x.mean(), row[inside], 1)
                out[k] = slope, float((row - x)[inside].mean()), height
        return out


def is_search(landscape: Landscape) -> bool:
    """Whether it is no grid but points drawn at random: most of them are alone at their learning rate."""
    levels = landscape.frame.groupby("lr")["wd"].nunique()
    alone = int((levels == 1).sum())
    return alone >= LEAST_ALONE and alone * 2 >= int(levels.sum())


def all_equal(landscape: Landscape) -> bool:
    """Whether two trials or more have scores, all of them the same."""
    score = landscape.frame["score"].to_numpy(dtype=np.float64)
    known = score[np.isfinite(score)]
    return len(known) > 1 and bool((known == known[0]).all())


def ridge(landscape: Landscape, rng: np.random.Generator) -> Ridge | None:
    """The ridge of a random search; None where too few of its trials have a score, all are equal, or too few decays."""
    lr, wd, score = (landscape.frame[name].to_numpy(dtype=np.float64) for name in ("lr", "wd", "score"))
    known = np.isfinite(score)
    if known.sum() < LEAST_TRIALS or all_equal(landscape) or len(np.unique(wd[known])) < LEAST_WDS:
        return None
    smallest = float(np.log(wd[wd > 0].min()))
    z, x = np.log(lr), np.where(wd > 0, np.log(np.where(wd > 0, wd, 1.0)), smallest - ZERO_GAP)
    score = score / landscape.unit  # first, for what lies between two huge scores may overflow
    unit = float(np.ptp(score[known]))
    # What diverged is no better than the worst: how bad it is cannot be said.
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
    """[N], variances, the amplitude being 1."""
    softened: _Softened


def _models(z: Floats, x: Floats, score: Floats, noise_sd: float | None) -> tuple[list[_Model], Floats]:
    """Every model, and its log-evidence, the amplitude of the surface by its likeliest value."""
    models: list[_Model] = []
    evidence: list[float] = []
    softened = [_Softened.of(score, share) for share in SOFTENINGS]
    for tilt, across, along in product(SLOPES, ACROSS, ALONG):
        among = _correlation((z, x), (z, x), tilt, across, along)
        if noise_sd is None:
            values, vectors = np.linalg.eigh(among)  # serves all softenings and all levels of the noise
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
    """Scores with large losses by their logarithm."""

    y: Floats
    """[N], with mean 0."""
    slope: Floats
    """[N], by how much a small change of a score changes `y`."""
    best: float
    """The best score."""
    top: float
    """The value of `y` that `best` has."""
    softening: float
    """Loss from which on losses count by their logarithm."""

    @classmethod
    def of(cls, score: Floats, share: float) -> _Softened:
        """`share`: of the largest loss, from which losses count by their logarithm; infinite: all as they are."""
        loss = score.max() - score
        if np.isinf(share):
            return cls(loss.mean() - loss, np.ones(len(loss)), float(score.max()), float(loss.mean()), np.inf)
        softening = share * float(loss.max())
        y = soft(-loss, softening)
        return cls(y - y.mean(), 1 / (1 + loss / softening), float(score.max()), float(-y.mean()), softening)

    def raw(self, y: Floats) -> Floats:
        """Scores that have these values of `y`."""
        return self.best + hardened(y - self.top, self.softening)

    @property
    def jacobian(self) -> float:
        """Its logarithm."""
        return float(np.log(self.slope).sum())


def _correlation(a: Sequence[Floats], b: Sequence[Floats], tilt: float, across: float, along: float) -> Floats:
    """[N, M], of the surface and of the level of a learning rate, at points `a` with those at points `b`."""
    dz, dx = a[0][:, None] - b[0][None, :], a[1][:, None] - b[1][None, :]
    surface = matern(np.abs(dz), along) * matern(np.abs(dx - tilt * dz), across)
    return surface + LEVEL * matern(np.abs(dz), float(ALONG[-1]))


def _drawn(model: _Model, runs: Sequence[Floats], at: Sequence[Floats], count: int, rng: np.random.Generator) -> Floats:
    """[`count`, M], surfaces drawn by `model` at the points `at`."""
    shape = model.slope, model.across, model.along
    among = _correlation(runs, runs, *shape) + np.diag(model.noise + JITTER)
    to_runs = _correlation(at, runs, *shape)
    gain = np.linalg.solve(among, to_runs.T).T
    left = _correlation(at, at, *shape) - gain @ to_runs.T
    root = np.linalg.cholesky(left + 1e-6 * np.eye(len(left)))
    return np.asarray(gain @ model.softened.y + model.amplitude * rng.standard_normal((count, len(left))) @ root.T)


def _places(surfaces: Floats, grid: Floats) -> Floats:
    """[K, R], best of `grid` on each of `surfaces` [K, R, GRID]; infinite at its ends."""
    best = surfaces.argmax(axis=-1)
    places = grid[best]
    return np.where(best == 0, -np.inf, np.where(best == len(grid) - 1, np.inf, places))


def slope(found: Ridge, level: float = 0.95) -> Estimate:
    """Slope of ln(best weight decay) on ln(learning rate) in a random search.

    Args:
        found: Where the best weight decay lies, as `ridge` gives it.
        level: Level of the interval between quantiles of the draws, 0 to 1.
    """
    return _estimate("slope", found, found.lines[:, 0], level)


def ratio(found: Ridge, level: float = 0.95, quantity: str = "rho") -> Estimate:
    """Best weight decay over learning rate, geometric mean over the learning rates at which it lies inside.

    Args:
        found: Where the best weight decay lies, as `ridge` gives it.
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
    """The draws' `values` between their quantiles."""
    (low,), (high,) = _between(values[:, None], level, widened)
    is_open = bool(np.isinf([low, high]).any())
    value = None if is_open else float(np.nanmedian(values))
    flags = (Flag.FEW_OPTIMA,) if is_open else ()
    settle = "more trials, on both sides of the best weight decay" if is_open else "more trials"
    return Estimate(quantity, "", value, float(low), float(high), level, found.trials, METHOD, flags, settle)


def _between(values: Floats, level: float, widened: float = 0.0) -> tuple[Floats, Floats]:
    """[N] and [N], quantiles of draws `values` [K, N]; a draw that has none lies below all others, and above them."""
    tail, lacking = (1 - level) / 2, np.isnan(values)
    low = np.quantile(np.where(lacking, -np.inf, values), tail, axis=0, method="inverted_cdf")
    high = np.quantile(np.where(lacking, np.inf, values), 1 - tail, axis=0, method="inverted_cdf")
    return low - widened, high + widened
