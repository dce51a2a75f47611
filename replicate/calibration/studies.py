"""The studies of the calibration: the truths, shapes, grids, noise and seed counts on which the rules are tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize

from replicate.estimate.straight_line import INTERCEPT_SHARES, origin_r_squared
from replicate.landscape.synthetic import SHAPES, Truth, bracket_grid, paper_grid, ratio_grid
from replicate.paper.protocol import LRS, RHO, WEIGHT_DECAYS

SEED_COUNTS = (1, 3, 5, 10)
SLOPES = (1.0, 0.5, 0.0, -0.5, -1.0)
RATIOS = (0.005, 0.02, 0.045, 0.06, 0.18, 0.22, 1.0, 10.0)
WITHOUT_OPTIMUM = {
    "plateau": (-math.inf, 0.0),
    "mesa": (-math.log(5), math.log(5)),
    "tolerance": (-math.log(2), math.log(2)),
}
"""Shape of the accuracy curve with a range of equally good weight decays, so that no single ratio or slope is true →
that range, in ln(weight decay / nominal best weight decay)."""
BROKEN = ("tent", "ridge")
"""Shapes that no smooth curve fits; their truths are near a margin's ends, where a misplaced peak changes verdicts."""
TRIED = {
    "rho": np.geomspace(1e-5, 1e5, 2001),
    "slope": np.round(np.arange(-6.0, 6.001, 0.02), 6),
    "intercept_share": INTERCEPT_SHARES,
}
"""Quantity → the values of which `identified` checks whether they agree with the true best weight decays."""
GRIDS = ("bracket", "paper", "ratio", "paper+line")


@dataclass(frozen=True)
class Study:
    """A kind of simulated landscape, of which many are drawn and judged: one row of the calibration's tables."""

    group: str
    truth: Truth
    grid: str = "bracket"
    """Weight decays of each learning rate: `bracket` (seven around the optimum, `factor` apart), `paper` (the paper's
    eight), `ratio` (kappa * 0.1 * lr for each of the paper's kappas) or `paper+line` (the paper's and 0.1 * lr)."""
    seeds: int = 5
    missing: float = 0.0
    diverged_factor: float | None = None
    """Runs diverge if lr * weight decay exceeds this multiple of its value at the optimum of lr = 0.01."""
    factor: float = 3.0
    """Ratio of neighbouring weight decays of the grid `bracket`."""

    @property
    def label(self) -> str:
        """What distinguishes the study within its group."""
        t = self.truth
        words = [f"b = {t.slope:g}", f"rho = {t.rho:g}", t.shape if t.depth else "flat", self.grid]
        if t.intercept_share:
            words.append(f"share {t.intercept_share:g}")
        if t.off_times != 1:
            words.append(f"{t.off_times:g} times off at {t.off_lr:g}")
        if t.noise != "normal":
            words.append(t.noise)
        if t.noise_sd_pp != 0.3:
            words.append(f"SD {t.noise_sd_pp:g}")
        if self.missing:
            words.append(f"{100 * self.missing:g} % missing")
        if self.diverged_factor:
            words.append("diverged corner")
        if self.factor != 3.0:
            words.append(f"factor {self.factor:g}")
        return ", ".join(words)

    def wds(self, lr: float) -> Sequence[float]:
        """The weight decays run at `lr`."""
        if self.grid == "bracket":
            return bracket_grid(self.truth, self.factor)(lr)
        if self.grid == "paper":
            return paper_grid(lr)
        if self.grid == "ratio":
            return ratio_grid(lr)
        if self.grid == "paper+line":
            return (*WEIGHT_DECAYS, float(f"{RHO * lr:.3g}"))
        raise ValueError(f"grid: expected one of {', '.join(GRIDS)}; got {self.grid!r}")


def studies() -> list[Study]:
    """All studies, in the order of the table."""
    out = [
        Study("slopes and shapes", Truth(slope=b, shape=shape), seeds=seeds)
        for b in SLOPES
        for shape in SHAPES
        for seeds in SEED_COUNTS
        if shape not in BROKEN and (shape != "mesa" or b == 1.0)
        # A mesa with a steep law rightly excludes the slope 1, although the mesa itself has no slope.
    ]
    out += [
        Study("peaks that break", Truth(shape=shape, slope=b, rho=rho, noise_sd_pp=sd), seeds=n, factor=factor)
        for shape in BROKEN
        for b, rho, factor in ((1.0, 0.055, 3.0), (1.0, 0.24, 3.0), (1.0, 0.1, 4.0), (0.5, 0.1, 3.0), (-1.0, 0.1, 3.0))
        for sd, n in ((0.3, 1), (0.5, 3), (0.3, 3), (0.1, 5))
    ]
    out += [Study("ratios", Truth(rho=rho, shape=s), seeds=5) for rho in RATIOS for s in ("table-2", "asymmetric")]
    out += [
        Study("flat", Truth(depth=0.0), grid, n) for grid in ("bracket", "paper", "paper+line") for n in SEED_COUNTS
    ]
    edge = [Truth(), Truth(rho=1e5, slope=-1.0), Truth(rho=300.0, slope=0.0), Truth(rho=0.0005)]
    out += [Study("edge of the grid", t, grid, n) for t in edge for grid in ("paper", "ratio") for n in (3, 5)]
    out += [
        Study("noise", Truth(noise=noise, noise_sd_pp=sd), seeds=n)
        for noise in ("normal", "student", "heteroscedastic")
        for sd in (0.25, 0.4)
        for n in (3, 5)
    ]
    out += [
        Study("seeds with curves of their own", Truth(slope=b, shape=shape, noise=noise, noise_sd_pp=sd), seeds=n)
        for noise in ("curves", "shifted", "two-faced")
        for b, shape, sd in ((1.0, "table-2", 0.3), (1.0, "asymmetric", 1.0), (1.0, "mesa", 1.0), (-1.0, "cliff", 1.0))
        for n in (1, 3, 5, 10)
        if (noise, shape) != ("two-faced", "mesa")  # half of its seeds would fall off a cliff
    ]
    out += [
        Study("laws that break at one learning rate", Truth(off_lr=lr, off_times=times, noise_sd_pp=sd), seeds=n)
        for lr, times in ((1e-2, 0.1), (1e-2, 0.3), (1e-3, 0.2), (1e-3, 5.0), (5e-5, 4.0))
        for sd, n in ((0.3, 3), (0.3, 5), (0.3, 10), (0.1, 5))
    ]
    out += [
        Study("straight lines", Truth(intercept_share=share, noise_sd_pp=sd), seeds=n)
        for share in (-0.05, 0.1, 0.3, 0.45, 0.6, 0.8, 1.04)
        for sd, n in ((0.3, 3), (0.3, 5), (0.3, 10), (0.1, 5))
    ]
    out += [Study("incomplete", Truth(slope=b), seeds=n, missing=0.15) for b in (1.0, -1.0) for n in (3, 5)]
    out += [Study("incomplete", Truth(slope=b), seeds=5, diverged_factor=10.0) for b in (1.0, 0.0)]
    out += [
        Study("one-dimensional tuning", t, "paper+line", n)
        for t in (
            Truth(depth=0.0, lr_drop_pp=0.0),
            Truth(rho=1.0, slope=0.0, depth=0.1),
            Truth(rho=30.0, slope=0.0, depth=0.1),
            Truth(rho=5.0, depth=0.3, lr_drop_pp=0.2),
        )
        for n in (3, 5, 10)
    ]
    return out


def power_studies() -> list[Study]:
    """Studies of statistical power: slope 1 and slope -1, by number of seeds and spacing; a gap of 0, by seeds."""
    return [
        Study("power", Truth(slope=b), seeds=n, factor=factor)
        for b in (1.0, -1.0)
        for factor in (2.0, 3.0, 5.0, 10.0)
        for n in (1, 2, 3, 5, 10)
    ] + [Study("power of the gap", Truth(depth=0.0), "paper+line", n) for n in (3, 5, 7, 10, 15)]


@lru_cache(maxsize=4096)
def true_values(study: Study, informative: tuple[float, ...] = LRS) -> dict[str, float]:
    """The true value of every quantity that is estimated from a sweep; NaN if none exists, as on a flat landscape.

    `rho` and `r2` are computed over the `informative` learning rates, like their estimates: if the slope is not 1, the
    ratio depends on which learning rates it is averaged over. `r2` of a constant optimum is minus infinity, its limit.
    If the optima lie on no power law or straight line, `slope` and `intercept_share` are those of the power law or line
    that is nearest to them by least squares of ln(weight decay).
    """
    truth = study.truth
    grid_best = max(float(_accuracy(study, lr, study.wds(lr)).max()) for lr in LRS)
    line_best = max(float(_accuracy(study, lr, (RHO * lr,)).max()) for lr in LRS)
    gap = grid_best - line_best
    if truth.depth == 0 or truth.shape in WITHOUT_OPTIMUM:
        nothing = math.nan
        return {"rho": nothing, "slope": nothing, "intercept_share": nothing, "r2": nothing, "gap_pp": gap}
    lrs, every = np.array(informative), np.array(LRS)
    best = np.array([truth.best_wd(lr) for lr in informative])
    through_origin = float(best @ lrs / (lrs @ lrs))
    total = float(((best - best.mean()) ** 2).sum())
    r2 = 1 - float(((best - through_origin * lrs) ** 2).sum()) / total if total > 1e-24 else -math.inf
    return {
        "rho": float(np.exp(np.log(best / lrs).mean())),
        "slope": truth.slope if truth.is_power_law else float(np.polyfit(np.log(lrs), np.log(best), 1)[0]),
        "intercept_share": _intercept_share(every, np.array([truth.best_wd(lr) for lr in LRS])),
        "r2": r2,
        "gap_pp": gap,
    }


def identified(study: Study, quantity: str) -> tuple[float, float] | None:
    """Smallest and largest `quantity` of the laws that give a best weight decay at every learning rate.

    For shapes with a whole range of best weight decays: `rho` (proportional laws), `slope` (power laws) and
    `intercept_share` (straight lines), searched on a grid; (inf, -inf) if no law does so; None for other shapes and
    quantities, and if accuracy does not depend on weight decay at all. `r2` has no smallest value, as any best
    weight decays may be chosen; its largest value is that of the choice nearest to a proportional law.
    """
    if study.truth.depth == 0 or study.truth.shape not in WITHOUT_OPTIMUM or quantity not in (*TRIED, "r2"):
        return None
    down, up = WITHOUT_OPTIMUM[study.truth.shape]
    lrs = np.array(LRS)
    best = np.log([study.truth.best_wd(lr) for lr in LRS])
    if quantity == "r2":
        nearest = np.clip(TRIED["rho"][:, None] * lrs, np.exp(best + down), np.exp(best + up))
        return -math.inf, float(origin_r_squared(lrs, nearest).max())
    relative = lrs / np.exp(np.log(lrs).mean())
    tried = TRIED[quantity]
    with np.errstate(divide="ignore"):
        if quantity == "rho":
            laws = np.log(tried[:, None] * lrs)
        elif quantity == "slope":
            laws = tried[:, None] * np.log(relative)
        else:
            laws = np.log(np.maximum((1 - tried[:, None]) * relative + tried[:, None], 0.0))
    possible = np.isfinite(laws).all(axis=1)
    tried, laws = tried[possible], laws[possible]
    above, below = (laws - best - down).min(axis=1), (laws - best - up).max(axis=1)
    # A ratio fixes the height of its line; a line of given slope or intercept share may have any height.
    found = tried[(above >= 0) & (below <= 0) if quantity == "rho" else above >= below]
    return (float(found.min()), float(found.max())) if len(found) else (math.inf, -math.inf)


def has_straight_line(study: Study) -> bool:
    """Whether best weight decay = rho * lr + delta holds for some rho and delta."""
    return study.truth.slope in (0.0, 1.0) and study.truth.off_times == 1


def _accuracy(study: Study, lr: float, wds: Sequence[float]) -> np.ndarray:
    """Expected accuracy at `wds`; 0 counts as a thousandth of the smallest other weight decay run in the study."""
    grid = sorted({*study.wds(lr), *wds})
    values = study.truth.accuracy(lr, grid)
    return values[[grid.index(w) for w in wds]]


def _intercept_share(lrs: np.ndarray, best: np.ndarray) -> float:
    relative = lrs / np.exp(np.log(lrs).mean())
    highest = float(relative.max() / (relative.max() - 1)) - 1e-6

    def misfit(share: float) -> float:
        line = np.log(np.maximum((1 - share) * relative + share, 1e-9))
        return float(np.var(np.log(best) - line))

    grid = np.linspace(-5, highest, 400)
    start = grid[int(np.argmin([misfit(s) for s in grid]))]
    found = optimize.minimize_scalar(misfit, bounds=(start - 0.05, min(start + 0.05, highest)), method="bounded")
    return float(found.x)


def thin(found: Sequence[Study], keep: int) -> list[Study]:
    """Every n-th study, with n such that about `keep` studies remain, spread over all groups: for a quick check."""
    stride = max(1, len(found) // keep)
    return list(found[::stride])
