"""A parametric model of accuracy over ln(weight decay), a rise and a fall, fitted to all learning rates of a cell.

Accuracy rises as a logistic function and then falls off a cliff, down to that of a model that learns nothing. All
learning rates share the width of the rise, the steepness of the cliff and the sharpness of its edges, so the runs of
one learning rate inform the curve between the runs of another. A Gaussian process models the deviations from this
shape, as in `accuracy_curve.py`, and the evidence decides between this model and the Gaussian process alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import expit, logsumexp

from replicate.estimate.accuracy_curve import AMPLITUDES, JITTER, Fit, Points, log_likelihood
from replicate.estimate.seed_curves import LENGTHS, matern
from replicate.estimate.softening import hardened, soft, softened
from replicate.landscape.landscape import Floats

OWN = 4
"""Number of parameters of one learning rate: accuracy without decay, relative to the best mean; height of the rise
(these two in units of `span_pp`); ln(weight decay) at half of the rise and at the fall, relative to the smallest weight
decay."""
COMMON = 4
"""Number of shared parameters: logarithms of the widths of the rise and of the fall, in ln(weight decay), of the fall's
exponent (1: logistic; large: a sharp upper edge and a long tail), and of its depth in units of `span_pp`."""
EXPECTED = np.array([-0.3, -0.7, 1.0])
"""Prior means of the first three shared parameters."""
SPREAD = np.array([0.7, 0.8, 1.5])
"""Prior standard deviations of the same parameters, larger than the differences between the trained perceptrons."""
DEPTH = (1.2, 0.5)
"""Prior mean of the fall's depth, and the prior standard deviation of its logarithm."""
SOFTENING = 10.0
"""Loss, in standard errors of a mean, above which losses count by their logarithm: see `softening.py`."""
MISFIT = 0.003
"""Standard deviation, as a share of the depth, by which trained curves deviate from this shape, with correlation length
`MISFIT_LENGTH` in ln(weight decay). Such deviations are too small to be seen in runs, yet large enough to displace a
peak. Set from the trained perceptrons."""
MISFIT_LENGTH = 0.5
APART = 0.2
"""Standard deviation of the shared parameters between learning rates. Set from the trained perceptrons."""
OUTSIDE = 0.2
"""Prior probability that the best weight decay lies below all that were run; the same for above."""
FIT_STEPS = 60
GAINED = 1e-3
"""The fit stops when a step lowers the sum of squares by less than this."""
CHAINS = 64
MOVES, SETTLING, KEPT = 40, 15, 4
"""Moves of each chain; moves discarded at its start (burn-in); of the later states, every fourth is kept."""


@dataclass(frozen=True)
class RiseAndFall:
    """The curve of one learning rate."""

    points: Points
    scale: float
    """Unit of drawn curves, percentage points; curves are relative to the best mean."""
    span_pp: float
    """Largest range of the means at any learning rate, percentage points: the unit of the shape's heights."""
    parameters: Floats
    """[OWN + COMMON], the likeliest values."""
    expected: Floats
    """[OWN + COMMON], prior mean: given the other learning rates, without the scores of this one."""
    precision: Floats
    """[OWN + COMMON, OWN + COMMON], prior precision matrix."""
    noise: Floats
    """[N, N], covariance of the softened means."""
    length: float
    """Length scale, ln(weight decay), of the Gaussian process of deviations from the shape (beside `MISFIT`)."""
    amplitude: float
    """Amplitude of this Gaussian process, in units of `scale`."""
    posterior: Floats
    """[K, OWN + COMMON], draws of the parameters."""

    @cached_property
    def y(self) -> Floats:
        """[N], the means, softened."""
        mean = self.points.noise.mean
        return soft((mean - mean.max()) / self.scale, SOFTENING)

    def at(self, parameters: Floats, x: Floats) -> Floats:
        """[K, N], curves with `parameters` [K, OWN + COMMON] at ln(weight decay) `x` [N], large losses softened."""
        return soft(curve(parameters, x - self.points.low) * (self.span_pp / self.scale), SOFTENING)

    def slopes(self, parameters: Floats) -> Floats:
        """[N, OWN + COMMON], derivatives of the softened curve at the runs."""
        return _Together([self]).slopes(parameters[None])[0]

    def left_over(self, x: Floats, others: Floats) -> Floats:
        """[N, M], covariance of the deviations from the shape at `x` [N] with those at `others` [M]."""
        distance = np.abs(x[:, None] - others[None, :])
        misfit = MISFIT * np.exp(self.parameters[-1]) * self.span_pp / self.scale
        return self.amplitude**2 * matern(distance, self.length) + misfit**2 * matern(distance, MISFIT_LENGTH)

    def draw(self, rng: np.random.Generator, grid: Floats) -> Floats:
        """Posterior draws [K, len(grid)] of the accuracy curve, in units of `scale` relative to the best mean."""
        x, noise, parameters = self.points.x, self.covariance(), self.posterior
        across = self.left_over(grid, x)
        gain = np.linalg.solve(noise, across.T).T
        covariance = self.left_over(grid, grid) - gain @ across.T
        root = np.linalg.cholesky(covariance + (covariance.max() + 1) * JITTER * np.eye(len(grid)))
        left = (self.y - self.at(parameters, x)) @ gain.T + rng.standard_normal((len(parameters), len(grid))) @ root.T
        return hardened(self.at(parameters, grid) + left, SOFTENING)

    def covariance(self) -> Floats:
        """[N, N], covariance of the softened means around the shape."""
        return self.noise + self.left_over(self.points.x, self.points.x) + JITTER * np.eye(len(self.noise))


def curve(parameters: Floats, x: Floats) -> Floats:
    """[..., N], accuracy at ln(weight decay) `x` [..., N] for `parameters` [..., OWN + COMMON], in units of the span.

    a(x) (1 - k(x)) - d k(x), with rise a(x), depth d and the fall k(x) = (1 + exp((f - x) / w) / n)^-n at position f
    with width w and exponent n: a generalised logistic function (Richards 1959).
    """
    without, added, rise, fall = (parameters[..., i, None] for i in range(OWN))
    common = np.exp(np.minimum(np.maximum(parameters[..., OWN:], -6), 6))
    rise_width, fall_width, exponent, depth = (common[..., i, None] for i in range(COMMON))
    top = without + added * expit((x - rise) / rise_width)
    steps = np.minimum(np.maximum((fall - x) / fall_width, -50), 50)
    lost = np.exp(-exponent * np.log1p(np.exp(steps) / exponent))
    return np.asarray(top - (top + depth) * lost)


class _Together:
    """Evaluates the curves of all learning rates at their runs in one call, which is faster than one call for each."""

    def __init__(self, curves: Sequence[RiseAndFall]) -> None:
        self._sizes = [len(c.points.x) for c in curves]
        width = max(self._sizes)
        # Padded to equal length with copies of the last run, which `at` removes again.
        self._x = np.array([np.pad(c.points.x - c.points.low, (0, width - len(c.points.x)), "edge") for c in curves])
        self._unit = np.array([c.span_pp / c.scale for c in curves])

    def at(self, parameters: Floats) -> list[Floats]:
        """Softened curves of `parameters` [E, K, OWN + COMMON], one [K, N] array per learning rate."""
        found = soft(curve(parameters, self._x[:, None]) * self._unit[:, None, None], SOFTENING)
        return [one[:, :size] for one, size in zip(found, self._sizes, strict=True)]

    def slopes(self, parameters: Floats) -> list[Floats]:
        """Derivatives at `parameters` [E, OWN + COMMON], one [N, OWN + COMMON] per learning rate."""
        step = 1e-4 * np.maximum(1.0, np.abs(parameters))
        moved = step[:, None] * np.eye(OWN + COMMON)
        found = self.at(np.concatenate([parameters[:, None] + moved, parameters[:, None] - moved], axis=1))
        count = OWN + COMMON
        return [
            ((one[:count] - one[count:]) / (2 * of_one[:, None])).T for one, of_one in zip(found, step, strict=True)
        ]


def fit(cells: Sequence[Points], fits: Sequence[Fit], rng: np.random.Generator) -> tuple[list[RiseAndFall], float]:
    """A curve for every learning rate of a cell, and their joint log-evidence, comparable to `Fit.log_evidence`.

    The evidence is by Laplace's approximation, with the prior of the shared parameters counted once. The noise is taken
    from `fits`; `rng` draws the posteriors.
    """
    curves, common = _expected(cells, fits)
    curves = _likeliest(curves, common)
    slopes = _Together(curves).slopes(np.array([c.parameters for c in curves]))
    evidence = np.stack([_log_evidence(c, s) for c, s in zip(curves, slopes, strict=True)])
    of_lengths = (logsumexp(evidence, axis=-1) - np.log(len(AMPLITUDES))).sum(axis=0)
    length = int(of_lengths.argmax())
    fitted, told = [], []
    for c, s, of_slice in zip(curves, slopes, evidence, strict=True):
        weights = np.exp(of_slice[length] - logsumexp(of_slice[length]))
        with_process = replace(c, length=float(LENGTHS[length]), amplitude=float(np.exp(weights @ np.log(AMPLITUDES))))
        fitted.append(with_process)
        told.append(_told_of_common(with_process, s))
    everything = common.precision + np.sum(told, axis=0)
    away = curves[0].parameters[OWN:] - common.expected
    occam = np.linalg.slogdet(common.precision)[1] - np.linalg.slogdet(everything)[1] - away @ common.precision @ away
    knowing = [_knowing(c, everything - t) for c, t in zip(fitted, told, strict=True)]
    posterior = _posterior(knowing, rng)
    log_evidence = float(logsumexp(of_lengths) - np.log(len(LENGTHS)) + occam / 2)
    return [replace(c, posterior=draws) for c, draws in zip(knowing, posterior, strict=True)], log_evidence


def _posterior(curves: Sequence[RiseAndFall], rng: np.random.Generator) -> Floats:
    """[E, K, OWN + COMMON], draws of the parameters of every learning rate, by differential evolution MCMC.

    ter Braak 2006. Each half of the chains moves by differences within the other half.
    """
    width = max(len(c.points.x) for c in curves)
    x, y, whiten, roots = [], [], np.zeros((len(curves), width, width)), []
    for i, c in enumerate(curves):
        missing = (0, width - len(c.points.x))
        inverse = np.linalg.inv(np.linalg.cholesky(c.covariance()))
        slopes = inverse @ c.slopes(c.parameters)
        whiten[i, : len(inverse), : len(inverse)] = inverse
        roots.append(np.linalg.cholesky(np.linalg.inv(c.precision + slopes.T @ slopes)))
        x.append(np.pad(c.points.x - c.points.low, missing))
        y.append(np.pad(c.y, missing))
    # Single precision, so that the chains do not depend on rounding errors from the unit or the order of rows.
    at, target = _single(np.array(x))[:, None], _single(np.array(y))[:, None]
    whitened, root = _single(whiten).transpose(0, 2, 1), _single(np.array(roots)).transpose(0, 2, 1)
    precision = _single(np.array([c.precision for c in curves]))
    unit = _single(np.array([c.span_pp / c.scale for c in curves]))[:, None, None]
    likeliest = np.round([c.parameters for c in curves], 4)[:, None]
    expected = np.round([c.expected for c in curves], 4)[:, None]

    def log_density(parameters: Floats) -> Floats:
        away = parameters - expected
        white = (target - soft(curve(parameters, at) * unit, SOFTENING)) @ whitened
        return np.asarray(-0.5 * (white**2).sum(axis=-1) - 0.5 * ((away @ precision) * away).sum(axis=-1))

    size, half = (len(curves), CHAINS // 2, OWN + COMMON), CHAINS // 2
    chains = [likeliest + rng.standard_normal(size) @ root for _ in range(2)]
    density = [log_density(one) for one in chains]
    rows, kept = np.arange(len(curves))[:, None], []
    for move in range(MOVES):
        # Every eighth jump can lead from one mode to another; the other jumps have the length advised by ter Braak.
        jump = 1.0 if move % 8 == 7 else 2.38 / np.sqrt(2 * (OWN + COMMON)) * rng.uniform(0.5, 1.3)
        for moving in (0, 1):
            others = chains[1 - moving]
            one = rng.integers(half, size=size[:2])
            another = (one + rng.integers(1, half, size=size[:2])) % half
            tried = chains[moving] + jump * (others[rows, one] - others[rows, another])
            tried += 1e-4 * rng.standard_normal(size) @ root
            then = log_density(tried)
            taken = np.log(rng.random(size[:2])) < then - density[moving]
            chains[moving] = np.where(taken[..., None], tried, chains[moving])
            density[moving] = np.where(taken, then, density[moving])
        if move >= SETTLING and (move - SETTLING) % KEPT == 0:
            kept += chains
    return np.concatenate(kept, axis=1)


def _single(values: Floats) -> Floats:
    return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class _Common:
    expected: Floats
    """[COMMON], prior mean of the shared parameters."""
    precision: Floats
    """[COMMON, COMMON], prior precision matrix of the shared parameters."""


def _expected(cells: Sequence[Points], fits: Sequence[Fit]) -> tuple[list[RiseAndFall], _Common]:
    """Curves with starting parameters read off the means, and the prior of the shared parameters."""
    span = max(float(np.ptp(p.noise.mean)) for p in cells) or 1.0
    common = _Common(np.append(EXPECTED, np.log(DEPTH[0])), np.diag(np.append(1 / SPREAD**2, 1 / DEPTH[1] ** 2)))
    curves = []
    for p, f in zip(cells, fits, strict=True):
        mean, top = p.noise.mean, int(p.noise.mean.argmax())
        fallen = np.nonzero(mean[top:] < mean[top] - 0.15 * span)[0]
        fall = p.x[top + fallen[0]] - 0.2 if len(fallen) else p.high + 1.0
        gain = max(float(mean[top] - mean[0]), 0.05 * span)
        without, rise = (mean[0] - mean[top]) / span, max(p.x[top] - p.low, 0.0) - 1.2
        start = np.concatenate([[without, gain / span, rise, fall - p.low], common.expected])
        middle = (p.high - p.low) / 2
        expected = np.concatenate([[without, 0.0, middle, middle], common.expected])
        sd = np.array([10 * (np.ptp(mean) + f.scale) / span, 1.0, middle + 2, middle + 2])
        precision = np.zeros((OWN + COMMON, OWN + COMMON))
        precision[:OWN, :OWN] = np.diag(1 / sd**2)
        noise = softened(mean, f.covariance, f.scale, SOFTENING)[1]
        curves.append(RiseAndFall(p, f.scale, span, start, expected, precision, noise, 1.4, 0.5, start[None]))
    return curves, common


def _likeliest(curves: list[RiseAndFall], common: _Common) -> list[RiseAndFall]:
    """`curves` with their jointly likeliest parameters, by the Levenberg-Marquardt method."""
    size = OWN * len(curves)
    whiten = [np.linalg.inv(np.linalg.cholesky(c.covariance())) for c in curves]
    own = [np.diagonal(c.precision)[:OWN] for c in curves]

    together, shared = _Together(curves), np.ones((len(curves), 1))

    def split(vector: Floats) -> Floats:
        return np.hstack([vector[:size].reshape(-1, OWN), shared * vector[size:]])

    def residuals(vector: Floats) -> tuple[float, list[Floats]]:
        parts = split(vector)
        found = together.at(parts[:, None])
        white = [w @ (c.y - one[0]) for w, c, one in zip(whiten, curves, found, strict=True)]
        away = vector[size:] - common.expected
        cost = float(away @ common.precision @ away) + sum(float(r @ r) for r in white)
        of_own = (q @ (p - c.expected)[:OWN] ** 2 for c, p, q in zip(curves, parts, own, strict=True))
        return cost + float(sum(of_own)), white

    at = np.concatenate([*(c.parameters[:OWN] for c in curves), common.expected])
    places = [np.append(np.arange(OWN * i, OWN * (i + 1)), np.arange(size, len(at))) for i in range(len(curves))]
    (cost, white), damping = residuals(at), 1e-2
    for _ in range(FIT_STEPS):
        curvature, gradient = np.zeros((len(at), len(at))), np.zeros(len(at))
        curvature[size:, size:] = common.precision
        gradient[size:] = -common.precision @ (at[size:] - common.expected)
        parts = split(at)
        of_curves = together.slopes(parts)
        for i, (c, p, w, r, q) in enumerate(zip(curves, parts, whiten, white, own, strict=True)):
            where = places[i]
            slopes = w @ of_curves[i]
            curvature[where[:, None], where] += slopes.T @ slopes
            gradient[where] += slopes.T @ r
            curvature[where[:OWN], where[:OWN]] += q
            gradient[where[:OWN]] -= q * (p - c.expected)[:OWN]
        gained = 0.0
        while damping < 1e8:
            tried = at + np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), gradient)
            then, of_tried = residuals(tried)
            if then < cost:
                gained, at, cost, white = cost - then, tried, then, of_tried
                damping = max(damping / 6, 1e-6)
                break
            damping *= 4
        if gained < GAINED:
            break
    return [replace(c, parameters=p) for c, p in zip(curves, split(at), strict=True)]


def _log_evidence(c: RiseAndFall, slopes: Floats) -> Floats:
    """[L, A], log-evidence of one learning rate by length and amplitude of the process; shared parameters are fixed."""
    own = slopes[:, :OWN]
    left = c.y - c.at(c.parameters[None], c.points.x)[0] + own @ (c.parameters - c.expected)[:OWN]
    base = replace(c, amplitude=0.0).covariance() + (own / np.diagonal(c.precision)[:OWN]) @ own.T
    jacobian = softened(c.points.noise.mean, c.noise, c.scale, SOFTENING)[2]
    return log_likelihood(c.points.x, left, base) + jacobian


def _told_of_common(c: RiseAndFall, slopes: Floats) -> Floats:
    """[COMMON, COMMON], information on the shared parameters from one learning rate; its own are marginalised out."""
    information = slopes.T @ np.linalg.solve(c.covariance(), slopes) + c.precision
    own, across = information[:OWN, :OWN], information[:OWN, OWN:]
    told = information[OWN:, OWN:] - across.T @ np.linalg.solve(own, across)
    return _loosened((told + told.T) / 2)


def _loosened(information: Floats) -> Floats:
    """`information` [COMMON, COMMON] reduced by the spread `APART` of the shared parameters between learning rates."""
    return np.asarray(np.linalg.solve(np.eye(COMMON) + APART**2 * information, information))


def _knowing(c: RiseAndFall, others: Floats) -> RiseAndFall:
    """`c` with a new prior of its shared parameters, from `others`, the information of the other learning rates."""
    precision = c.precision.copy()
    precision[OWN:, OWN:] = _loosened(others)
    return replace(c, precision=precision, expected=np.concatenate([c.expected[:OWN], c.parameters[OWN:]]))
