"""Simulated landscapes with a known truth: best weight decay, shape of the accuracy curve, and noise between seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from replicate.landscape.landscape import Floats, Landscape
from replicate.paper.protocol import KAPPAS, LRS, RHO, SEEDS, WEIGHT_DECAYS

Grid = Callable[[float], Sequence[float]]

CENTER_LR = float(np.exp(np.mean(np.log(LRS))))
"""Geometric mean of the learning rates: there, best weight decay / learning rate is `Truth.rho` for any slope."""


def _saturating(x: Floats) -> Floats:
    """Accuracy lost, fitted to the paper's Table 2: 0.65, 2.2, 3.25 pp at 2, 5, 10 times the best decay; limit 5.4."""
    return 1.54 * x**2 / (1 + x**2 / 3.51)


SHAPES: dict[str, Callable[[Floats], Floats]] = {
    "table-2": _saturating,
    "quadratic": lambda x: 0.62 * x**2,
    "quartic": lambda x: 0.12 * x**4,
    "kinked": lambda x: 1.4 * np.abs(x),
    "tolerance": lambda x: 1.25 * np.maximum(np.abs(x) - np.log(2), 0) ** 2,
    "asymmetric": lambda x: np.where(x > 0, 1.1, 0.35) * x**2,
    "skewed": lambda x: 0.9 * (np.exp(0.9 * x) - 0.9 * x - 1) / 0.81 * 1.2,
    "plateau": lambda x: np.where(x > 0, 4.0 * x**2, 0.0),
    "mesa": lambda x: 12.0 * np.maximum(np.abs(x) - np.log(5), 0) ** 2,
    "cliff": lambda x: np.where(x > 0, 2.2 * x**2, 1.6 * x**2 / (1 + x**2 / 1.5)),
    "tent": lambda x: np.where(x > 0, 3.0, 0.6) * np.abs(x),
    "ridge": lambda x: np.where(x > 0, 3.0 * x, 0.25 * x**2),
}
"""Name → accuracy lost, in pp, at x = ln(weight decay / best weight decay). On a `plateau` no weight decay below the
best loses anything, and larger ones lose much; on a `mesa` all weight decays within a factor 5 of the best are equally
good, and accuracy falls steeply beyond. `tent` and `ridge` have a kink at the best weight decay."""


NOISES = ("normal", "student", "heteroscedastic", "curves", "shifted", "two-faced")


@dataclass(frozen=True)
class Truth:
    """The parameters of a simulated landscape; ValueError if `intercept_share` is not 0 and `slope` is not 1."""

    rho: float = RHO
    """Ratio of the best weight decay to the learning rate, at learning rate `CENTER_LR`."""
    slope: float = 1.0
    """Exponent of the power law: the best weight decay is proportional to learning rate ** `slope`."""
    shape: str = "table-2"
    depth: float = 1.0
    """Factor on the loss of accuracy that `shape` gives; 0: accuracy does not depend on weight decay."""
    peak_pp: float = 75.0
    """Expected accuracy, percent, at learning rate 1e-3 (the best one) and its best weight decay."""
    lr_drop_pp: float = 1.0
    """At another learning rate, the best weight decay reaches less: by this times ln(learning rate / 1e-3) ** 2."""
    seed_sd_pp: float = 0.2
    """Standard deviation of an error that all runs with the same seed and learning rate share."""
    noise_sd_pp: float = 0.3
    """Standard deviation of each run's own error, in addition to `seed_sd_pp`."""
    noise: str = "normal"
    """How errors of single runs are distributed: `normal`; `student` (t with 3 degrees of freedom, same standard
    deviation); `heteroscedastic` (up to four times as large away from the optimum); `curves` (four fifths of the
    variance is a smooth curve over ln(weight decay), one per seed and learning rate); `shifted` (one such curve per
    seed, over ln(weight decay / best)); `two-faced` (one of two accuracy curves per seed and learning rate, with optima
    a factor 2.3 to 3 apart)."""

    intercept_share: float = 0.0
    """If not 0, best weight decay = a * lr + b, not a power law; this is the share of b in it at `CENTER_LR`."""
    off_lr: float = 0.0
    """The one learning rate whose best weight decay departs from the law; 0: none does."""
    off_times: float = 1.0
    """At `off_lr`, the best weight decay is this many times what the law gives."""

    def __post_init__(self) -> None:
        if self.intercept_share and self.slope != 1:
            raise ValueError(f"slope: expected 1 with an intercept_share other than 0, got {self.slope:g}")

    @property
    def is_power_law(self) -> bool:
        """Whether the best weight decay is a power of the learning rate."""
        return self.off_times == 1 and self.intercept_share == 0

    def best_wd(self, lr: float) -> float:
        """The best weight decay at `lr`."""
        relative = (lr / CENTER_LR) ** self.slope
        law = self.rho * CENTER_LR * ((1 - self.intercept_share) * relative + self.intercept_share)
        return float(law * (self.off_times if lr == self.off_lr else 1.0))

    def from_best(self, lr: float, wds: Sequence[float]) -> Floats:
        """ln(wd / best wd) for each of the W `wds`, [W]; wd 0 is replaced by a thousandth of the smallest other one."""
        wd = np.asarray(wds, dtype=np.float64)
        smallest = wd[wd > 0].min() if (wd > 0).any() else 1e-9
        return np.asarray(np.log(np.where(wd > 0, wd, 1e-3 * smallest) / self.best_wd(lr)))

    def accuracy(self, lr: float, wds: Sequence[float]) -> Floats:
        """Expected accuracy (without noise) in percent, at least 1, at each of the W weight decays `wds`, [W]."""
        x = self.from_best(lr, wds)
        lost = self.depth * SHAPES[self.shape](x)
        peak = self.peak_pp - self.lr_drop_pp * np.log(lr / 1e-3) ** 2
        # Accuracy does not fall below chance, taken as 1 %.
        return np.maximum(peak - lost, 1.0)


def paper_grid(lr: float) -> Sequence[float]:
    """The paper's eight weight decays, the same at every `lr`."""
    return WEIGHT_DECAYS


def ratio_grid(lr: float) -> Sequence[float]:
    """Multiples, 0.1 to 10, of the best weight decay that the paper claims, 0.1 * lr, as in its Table 2."""
    return tuple(float(f"{k * RHO * lr:.3g}") for k in KAPPAS)


def bracket_grid(truth: Truth, factor: float = 3.0, reach: int = 3) -> Grid:
    """A grid of the 2 * reach + 1 powers of `factor` around the optimum, which in general lies between two of them."""

    def grid(lr: float) -> Sequence[float]:
        step = np.log(factor)
        centre = np.round(np.log(truth.best_wd(lr)) / step)
        return tuple(float(f"{np.exp(step * (centre + k)):.4g}") for k in range(-reach, reach + 1))

    return grid


def draw(
    truth: Truth,
    grid: Grid,
    rng: np.random.Generator,
    *,
    lrs: Sequence[float] = LRS,
    seeds: Sequence[int] = SEEDS,
    missing: float = 0.0,
    diverged_above: float | None = None,
    arch: str = "synthetic",
    dataset: str = "synthetic",
) -> Landscape:
    """A random landscape with the parameters `truth`: one run per learning rate, weight decay of grid(lr) and seed.

    `missing`: share of runs left out at random. `diverged_above`: runs with lr * weight decay above it have diverged.
    """
    columns: dict[str, list[Floats]] = {"lr": [], "wd": [], "seed": [], "score": []}
    shared = _seed_curves(len(seeds), rng) if truth.noise == "shifted" else None
    for lr in lrs:
        wds = np.array(sorted(set(grid(lr))), dtype=np.float64)
        mean = truth.accuracy(lr, list(wds))
        common = rng.normal(0, truth.seed_sd_pp, size=len(seeds))
        noise = _noise(truth, mean, truth.from_best(lr, list(wds)), len(seeds), rng, shared)
        columns["lr"].append(np.full(noise.size, lr))
        columns["wd"].append(np.repeat(wds, len(seeds)))
        columns["seed"].append(np.tile(np.asarray(seeds), len(wds)))
        columns["score"].append((mean[:, None] + common[None, :] + noise).ravel())
    frame = pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
    frame["diverged"] = False
    if diverged_above is not None:
        frame["diverged"] = (frame["lr"] * frame["wd"]).to_numpy() > diverged_above
        frame.loc[frame["diverged"], "score"] = np.nan
    if missing:
        frame = frame[rng.random(len(frame)) >= missing].reset_index(drop=True)
    return Landscape(arch, dataset, frame, synthetic=True)


def _seed_curves(n_seeds: int, rng: np.random.Generator) -> Callable[[Floats], Floats]:
    """Smooth random curves of variance 1 over x, one per seed: [W] → [W, seeds]; sums of cosines, period about 15."""
    frequency = rng.normal(0, 1 / 2.4, (5, n_seeds))
    phase = rng.uniform(0, 2 * np.pi, (5, n_seeds))
    return lambda x: np.asarray(np.sqrt(2 / 5) * np.cos(frequency * x[:, None, None] + phase).sum(axis=1))


def _noise(
    truth: Truth,
    mean: Floats,
    x: Floats,
    n_seeds: int,
    rng: np.random.Generator,
    shared: Callable[[Floats], Floats] | None,
) -> Floats:
    """Errors of single runs, [W, S]. `x`: [W], ln(wd / best wd). `shared`: the random curves of the noise `shifted`."""
    shape = (len(mean), n_seeds)
    if truth.noise == "normal":
        return rng.normal(0, truth.noise_sd_pp, shape)
    if truth.noise == "student":
        return truth.noise_sd_pp * rng.standard_t(3, shape) / np.sqrt(3)
    if truth.noise == "heteroscedastic":
        sd = truth.noise_sd_pp * (1 + np.minimum(mean.max() - mean, 3.0))
        return rng.normal(0, 1, shape) * sd[:, None]
    if truth.noise in ("curves", "shifted"):
        curves = shared or _seed_curves(n_seeds, rng)
        return np.asarray(truth.noise_sd_pp * (np.sqrt(0.8) * curves(x) + np.sqrt(0.2) * rng.normal(0, 1, shape)))
    if truth.noise == "two-faced":
        # Both curves are centred so that their mean is the true curve.
        side = rng.choice([-1.0, 1.0], n_seeds) * np.log(3) / 2
        lost = SHAPES[truth.shape]
        both = (lost(x - np.log(3) / 2) + lost(x + np.log(3) / 2)) / 2
        moved = np.stack([both - lost(x - s) for s in side], axis=1)
        return np.asarray(truth.depth * moved + rng.normal(0, truth.noise_sd_pp, shape))
    raise ValueError(f"noise: expected one of {', '.join(NOISES)}; got {truth.noise!r}")
