"""The estimate of a claim's quantity from the scores of its runs: which estimator serves which quantity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from replicate.estimate import combine, details, deviation, fits, gap, growth, noise, power_law, straight_line
from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag
from replicate.estimate.line_fit import LineFit
from replicate.judging import ratios
from replicate.judging.ratios import LEVEL
from replicate.judging.rule import position
from replicate.judging.select import Selected, only
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim, Margin
from replicate.paper.protocol import WEIGHT_DECAYS


def estimate(claim: Claim, selected: Selected, level: float = LEVEL) -> Estimate:
    """The estimate of the claim's quantity, with its interval at `level`; ValueError if no estimator is known."""
    if claim.quantity not in _ESTIMATORS:
        known = ", ".join(_ESTIMATORS)
        raise ValueError(f"{claim.id}: expected a quantity that can be estimated ({known}), got {claim.quantity!r}")
    return _ESTIMATORS[claim.quantity](selected, level, **dict(claim.arguments))


def of_cell(landscape: Landscape) -> dict[str, Estimate]:
    """Quantity → estimate for one cell: best wd / lr, and slope, intercept share and R² of the best wd against lr."""
    fit = fits.line(landscape)
    found = {
        name: ratios.too_few(name, landscape) if fit is None else method(fit, LEVEL)
        for name, method in _OF_LINE.items()
    }
    return {"rho": ratios.of_cell("rho", landscape), **found}


_OF_LINE: dict[str, Callable[[LineFit, float], Estimate]] = {
    "slope": power_law.slope,
    "intercept_share": straight_line.intercept_share,
    "r2": lambda fit, level: straight_line.r_squared(fit, np.random.default_rng(0), level),
}


def _on_line(quantity: str, selected: Selected, level: float) -> Estimate:
    landscape = only(selected)
    fit = fits.line(landscape)
    return ratios.too_few(quantity, landscape, level) if fit is None else _OF_LINE[quantity](fit, level)


def _ratio(quantity: str, selected: Selected, level: float) -> Estimate:
    return ratios.of_cell(quantity, only(selected), level)


# ---------------------------------------------------------------- deviation


def _drops(selected: Selected, dataset: str, *, together: bool = False) -> dict[float, list[Any]]:
    out: dict[float, list[Any]] = {}
    for one in selected:
        if one.cell.dataset == dataset:
            for kappa, values in deviation.cell_drops(one.landscape, together=together).items():
                out.setdefault(kappa, []).append(values)
    return out


def _datasets(selected: Selected) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.cell.dataset for one in selected))


def _drop(selected: Selected, level: float, dataset: str, kappa: float) -> Estimate:
    return deviation.drop(_drops(selected, dataset), kappa, level)


def _hurts(selected: Selected, level: float, dataset: str) -> Estimate:
    drops = _drops(selected, dataset)
    if not drops.get(0.1) or not drops.get(10.0):
        return unknown("hurts_pp", "pp", level, deviation.METHOD, (Flag.NO_PAIRS,), "runs at kappa 0.1 and 10")
    return deviation.least("hurts_pp", [(f"kappa {k:g}", 1.0, drops[k], 0.0) for k in (0.1, 10.0)], level)


def _zone(selected: Selected, level: float) -> Estimate:
    """Least margin, pp, by which accuracy drops are < 1.2 pp for kappa (wd / 0.1 lr) of 0.5 to 2, and > 2 pp beyond."""
    terms = []
    for dataset in _datasets(selected):
        for kappa, values in _drops(selected, dataset).items():
            inside = 0.5 <= kappa <= 2
            terms.append((f"{dataset} kappa {kappa:g}", -1.0 if inside else 1.0, values, 1.2 if inside else -2.0))
    if not terms:
        return unknown("zone_pp", "pp", level, deviation.METHOD, (Flag.NO_PAIRS,), "runs at the kappas of Table 2")
    return deviation.least("zone_pp", terms, level)


def _growth(selected: Selected, level: float) -> Estimate:
    return growth.exponent({d: _drops(selected, d, together=True) for d in _datasets(selected)}, level)


def _asymmetry(selected: Selected, level: float) -> Estimate:
    return deviation.asymmetry(_drops(selected, "imagenet"), _drops(selected, "cifar100"), level)


# ---------------------------------------------------------------- one-dimensional tuning


def _gap(selected: Selected, level: float) -> Estimate:
    return cell_gap(only(selected), WEIGHT_DECAYS, level)


def cell_gap(landscape: Landscape, grid: tuple[float, ...], level: float = LEVEL) -> Estimate:
    """The cost, pp, of tuning only a cell's learning rate instead of searching the weight decays of `grid` too."""
    seeds = len(landscape.seeds)
    plug_in = gap.plug_in(landscape, grid)
    found = gap.summarise("gap_pp", fits.gap_draws(landscape, grid), seeds, seeds, level, plug_in)
    return _flagged(found, [landscape], grid)


def _flagged(found: Estimate, landscapes: Sequence[Landscape], grid: tuple[float, ...] = WEIGHT_DECAYS) -> Estimate:
    """`found`; flagged `inert` if there is a landscape in which none of the compared weight decays has an effect."""
    if any(gap.inert(landscape, grid) for landscape in landscapes):
        return replace(found, flags=(*found.flags, Flag.INERT))
    return found


def _mean_gap(selected: Selected, level: float) -> Estimate:
    """Mean, t over cells, of the accuracy lost by tuning only lr; cross-fitted, as a mean keeps the bias of maxima."""
    found = [gap.cross_fitted(one.landscape, WEIGHT_DECAYS) for one in selected]
    mean = gap.mean_over_cells([g for g in found if g is not None], len(selected), level)
    return _flagged(mean, [one.landscape for one in selected])


def _max_gap(selected: Selected, level: float) -> Estimate:
    """Most accuracy lost in a cell by tuning only lr; limits: the cells' largest, the lower at a Bonferroni level."""
    seeds = min(len(one.landscape.seeds) for one in selected)
    draws = [d for one in selected if (d := fits.gap_draws(one.landscape)) is not None]
    if len(draws) < len(selected):
        return gap.summarise("max_gap_pp", None, 0, seeds, level)
    cells = [cell_gap(one.landscape, WEIGHT_DECAYS, level) for one in selected]
    values = [cell.value for cell in cells if cell.value is not None]
    if len(values) < len(cells):
        return gap.summarise("max_gap_pp", None, 0, seeds, level)
    low = float(np.quantile(np.stack(draws), (1 - level) / 2 / len(draws), axis=1).max())
    high = max(cell.high for cell in cells)
    flags = tuple(dict.fromkeys(flag for cell in cells for flag in cell.flags))
    return Estimate("max_gap_pp", "pp", max(values), low, high, level, len(draws), gap.METHOD, flags, "more seeds")


def _seed_scores(landscape: Landscape) -> Any:
    """Scores [configuration, seed] of configurations within 5 pp of the best mean: those that matter in tuning."""
    rows = [row for cut in landscape.slices() for row in cut.scores if np.isfinite(row).any()]
    means = [float(np.nanmean(row)) for row in rows]
    near = [row for row, mean in zip(rows, means, strict=True) if mean >= max(means) - 5]
    return np.array(near).reshape(-1, len(landscape.seeds))


def _gap_minus_seed_sd(selected: Selected, level: float, seed_sd_low_pp: float, seed_sd_high_pp: float) -> Estimate:
    mean = _mean_gap(selected, level)
    sd = noise.seed_sd([_seed_scores(one.landscape) for one in selected], level)
    if mean.value is None or sd.value is None:
        return unknown("gap_minus_seed_sd_pp", "pp", level, gap.METHOD, mean.flags or sd.flags, mean.settle)
    d = combine.difference(combine.Span(mean.value, mean.low, mean.high), combine.Span(sd.value, sd.low, sd.high))
    found = details.GapAndSeedNoise(
        mean_gap_pp=_measured(mean),
        seed_sd_pp=_measured(sd),
        gaps_pp=mean.details.gaps_pp if isinstance(mean.details, details.Gaps) else (),
        seed_sd_by_the_paper=position(sd.low, sd.high, Margin(seed_sd_low_pp, seed_sd_high_pp)).value,
    )
    method = f"{gap.METHOD}; chi-squared"
    return Estimate(
        "gap_minus_seed_sd_pp", "pp", d.value, d.low, d.high, level, mean.n, method, mean.flags, mean.settle, found
    )


def _measured(one: Estimate) -> details.Measured:
    return details.Measured(value=one.value, low=one.low, high=one.high, level=one.level, n=one.n, method=one.method)


def _cost(_: Selected, __: float, grid_runs: int, line_runs: int) -> Estimate:
    """Runs of tuning lr alone (on the line wd = 0.1 lr) / runs of the full grid, as counted from the protocol."""
    share, counts = line_runs / grid_runs, details.RunCounts(runs_line=line_runs, runs_grid=grid_runs)
    return Estimate("cost_ratio", "", share, share, share, 1.0, grid_runs, "counted from the protocol", details=counts)


_ESTIMATORS: dict[str, Callable[..., Estimate]] = {
    "rho": partial(_ratio, "rho"),
    "rho_rejects": ratios.rejects,
    "rho_sgd": partial(_ratio, "rho_sgd"),
    "rho_pooled": ratios.pooled,
    **{name: partial(_on_line, name) for name in _OF_LINE},
    "max_ratio": ratios.largest_between,
    "drop_pp": _drop,
    "hurts_pp": _hurts,
    "zone_pp": _zone,
    "growth_exponent": _growth,
    "asymmetry_pp": _asymmetry,
    "gap_pp": _gap,
    "mean_gap_pp": _mean_gap,
    "max_gap_pp": _max_gap,
    "gap_minus_seed_sd_pp": _gap_minus_seed_sd,
    "cost_ratio": _cost,
    "sgd_ratio": ratios.sgd_over_adamw,
}
