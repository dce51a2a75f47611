"""From a claim and its landscapes to its verdict: which estimator answers which quantity of the registry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from replicate.estimate import combine, deviation, fits, gap, growth, noise, power_law, straight_line
from replicate.estimate.line_fit import LineFit
from replicate.estimate.result import Estimate, unknown
from replicate.judging import criteria, ratios
from replicate.judging.ratios import LEVEL
from replicate.judging.secondary import secondary
from replicate.judging.select import Landscapes, of_cells, only
from replicate.judging.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    REPLICATED,
    Evidence,
    Verdict,
    forbidden,
    position,
    rule,
    span,
)
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim, Margin
from replicate.paper.protocol import LRS, RHO, SEEDS, WEIGHT_DECAYS

MISPLACED = 1.1
"""By so much further the interval of a cell must exclude a ratio for a family of ten: the peak of a lopsided curve is
placed wrongly in the same direction in every cell, and at the level of a family that counts."""


def judge(claim: Claim, landscapes: Landscapes, evidence: Evidence) -> Verdict:
    """The verdict of `claim` from exactly the landscapes its parts name."""
    found = estimate(claim, landscapes)
    beside = secondary(claim, landscapes) | criteria.of_figure(claim, found)
    if claim.quantity == "rho_rejects":
        return _compared(_rejection(claim, found, landscapes, evidence, beside))
    return _compared(decide(claim, found, evidence, beside))


def _compared(verdict: Verdict) -> Verdict:
    """`verdict` with a word on where the paper's method would give another one."""
    published = verdict.secondary.get("the paper's method")
    if published is None or verdict.estimate is None:
        return verdict
    word = criteria.disagreement(verdict.estimate.quantity, verdict, published)
    return replace(verdict, secondary={**verdict.secondary, "where they differ": word}) if word else verdict


def decide(claim: Claim, found: Estimate, evidence: Evidence, beside: dict[str, Any] | None = None) -> Verdict:
    """The three-sided rule; and a ratio that changes with the learning rate is contradicted by where it is off.

    The claim is one ratio at every learning rate. Where the slope is not 1 the mean ratio may lie anywhere, and no
    number would settle it; so a learning rate whose own ratio lies outside the margin, at a level that holds for
    all of them together, decides. A likeliest ratio outside the margin at one of them keeps the mean from replicating.
    """
    found = _off(claim, found)
    verdict = rule(claim, found, evidence, beside)
    if "ratio-varies" not in found.flags or verdict.outcome == CONTRADICTED:
        return verdict
    for row in found.details.get("ratios_together", ()):
        low = -math.inf if row["low"] is None else row["low"]
        high = math.inf if row["high"] is None else row["high"]
        if position(low, high, claim.margin) == CONTRADICTED:
            reason = (
                f"the ratio changes with the learning rate, and at {row['lr']:g} its interval {span(low, high)}, which "
                f"holds for all learning rates together, lies outside the margin "
                f"{span(claim.margin.low, claim.margin.high)}"
            )
            return replace(verdict, outcome=CONTRADICTED, reason=reason, settle="")
    return verdict


def _off(claim: Claim, found: Estimate) -> Estimate:
    """`found` with the flag `ratio-off` where its ratio at some learning rate may well lie outside the margin.

    Where the likeliest one does by more than a tenth of the margin's width, in logarithms, for it is not the true one;
    or where those that are as likely as not reach out by more than a fifth: on a lopsided curve between runs far apart
    the likeliest one is drawn to the steep side.
    """
    rows = found.details.get("ratios_together", ())
    low, high = claim.margin.low, claim.margin.high
    tenth = (high / low) ** 0.1 if rows else 1.0
    for row in rows:
        value = row["value"]
        likely = row.get("likely") or [value, value]
        near = value is None or low / tenth <= value <= high * tenth
        if near and all(end is None or low / tenth**2 <= end <= high * tenth**2 for end in likely):
            continue
        at = f"{row['cell']} at lr {row['lr']:g}" if "cell" in row else f"lr {row['lr']:g}"
        what = "unknown" if value is None else f"{value:.2g}"
        settle = f"more seeds, or weight decays closer together, for {at}, where the likeliest ratio is {what}"
        return replace(found, flags=(*found.flags, "ratio-off"), settle=settle)
    return found


def estimate(claim: Claim, landscapes: Landscapes) -> Estimate:
    """The estimate of the claim's quantity."""
    return _ESTIMATORS[claim.quantity](claim, landscapes)


def _rejection(
    claim: Claim, found: Estimate, landscapes: Landscapes, evidence: Evidence, beside: dict[str, Any]
) -> Verdict:
    """No rejection of 0.10: never from a large p alone, and a rejection holds over the whole family of ten cells."""
    found = _off(claim, found)
    n_cells = 10
    family = ratios.of_cell(claim, landscapes, 1 - (1 - LEVEL) / n_cells)
    if not family.low / MISPLACED <= RHO <= family.high * MISPLACED:
        outcome = CONTRADICTED
        ends = span(family.low / MISPLACED, family.high * MISPLACED)
        why = f"the interval that holds for all ten cells together, {ends}, excludes 0.10"
    elif found.low <= RHO <= found.high and position(found.low, found.high, claim.margin) == REPLICATED:
        outcome = REPLICATED
        why = "the 95 % interval holds 0.10 and lies within a factor 2 of it"
        if but := forbidden(found.flags):
            outcome = INCONCLUSIVE
            why += f", but {but}"
    else:
        outcome = INCONCLUSIVE
        why = "0.10 is not excluded for all ten cells together, nor is every other ratio beyond a factor 2"
    return Verdict(claim.id, outcome, why, claim.margin, evidence, found,
                   found.settle if outcome == INCONCLUSIVE else "", beside)  # fmt: skip


# ---------------------------------------------------------------- Table 1


def _on_line(quantity: str, method: Callable[[LineFit], Estimate]) -> Callable[[Claim, Landscapes], Estimate]:
    def run(claim: Claim, landscapes: Landscapes) -> Estimate:
        fit = fits.line(only(claim, landscapes))
        if fit is None:
            return ratios.too_few(quantity)
        return method(fit)

    return run


# ---------------------------------------------------------------- deviation


def _drops(claim: Claim, landscapes: Landscapes, dataset: str, *, together: bool = False) -> dict[float, list[Any]]:
    out: dict[float, list[Any]] = {}
    for cell, landscape in of_cells(claim, landscapes):
        if cell.dataset == dataset:
            for kappa, values in deviation.cell_drops(landscape, together=together).items():
                out.setdefault(kappa, []).append(values)
    return out


def _datasets(claim: Claim, landscapes: Landscapes) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.dataset for c, _ in of_cells(claim, landscapes)))


def _drop(claim: Claim, landscapes: Landscapes) -> Estimate:
    arguments = dict(claim.arguments)
    return deviation.drop(_drops(claim, landscapes, claim.cells[0].dataset), arguments["kappa"], LEVEL)


def _hurts(claim: Claim, landscapes: Landscapes) -> Estimate:
    drops = _drops(claim, landscapes, claim.cells[0].dataset)
    if not drops.get(0.1) or not drops.get(10.0):
        return unknown("hurts_pp", "pp", LEVEL, deviation.METHOD, ("no-pairs",), "runs at kappa 0.1 and 10")
    return deviation.least("hurts_pp", [(f"kappa {k:g}", 1.0, drops[k], 0.0) for k in (0.1, 10.0)], LEVEL)


def _zone(claim: Claim, landscapes: Landscapes) -> Estimate:
    """Slack of the tightest bound: under 1.2 pp within the zone, over 2 pp beyond."""
    terms = []
    for dataset in _datasets(claim, landscapes):
        drops = _drops(claim, landscapes, dataset)
        for kappa, values in drops.items():
            inside = 0.5 <= kappa <= 2
            terms.append((f"{dataset} kappa {kappa:g}", -1.0 if inside else 1.0, values, 1.2 if inside else -2.0))
    if not terms:
        return unknown("zone_pp", "pp", LEVEL, deviation.METHOD, ("no-pairs",), "runs at the kappas of Table 2")
    return deviation.least("zone_pp", terms, LEVEL)


def _growth(claim: Claim, landscapes: Landscapes) -> Estimate:
    by_dataset = {d: _drops(claim, landscapes, d, together=True) for d in _datasets(claim, landscapes)}
    return growth.exponent(by_dataset, LEVEL)


def _asymmetry(claim: Claim, landscapes: Landscapes) -> Estimate:
    return deviation.asymmetry(_drops(claim, landscapes, "imagenet"), _drops(claim, landscapes, "cifar100"), LEVEL)


# ---------------------------------------------------------------- one-dimensional tuning


def _gap(claim: Claim, landscapes: Landscapes) -> Estimate:
    landscape = only(claim, landscapes)
    return cell_gap(landscape, WEIGHT_DECAYS)


def cell_gap(landscape: Landscape, grid: tuple[float, ...]) -> Estimate:
    """What tuning the learning rate alone costs in one cell, pp, against a search over the weight decays of `grid`."""
    seeds = len(landscape.seeds)
    plug_in = gap.plug_in(landscape, grid)
    return gap.summarise("gap_pp", fits.gap_draws(landscape, grid), seeds, seeds, LEVEL, plug_in)


def _all_gaps(claim: Claim, landscapes: Landscapes) -> tuple[Any, int]:
    """Draws [cells, K] of the gap of every cell, None where a cell has none; the smallest number of seeds."""
    cells = [landscape for _, landscape in of_cells(claim, landscapes)]
    draws = [fits.gap_draws(landscape) for landscape in cells]
    seeds = min(len(landscape.seeds) for landscape in cells)
    found = [d for d in draws if d is not None]
    return (np.stack(found) if len(found) == len(draws) else None), seeds


def _mean_gap(claim: Claim, landscapes: Landscapes) -> Estimate:
    """Mean of the cross-fitted gaps, t over cells: what is left of a maximum's optimism would not average out."""
    cells = [landscape for _, landscape in of_cells(claim, landscapes)]
    found = [gap.cross_fitted(landscape, WEIGHT_DECAYS) for landscape in cells]
    return gap.mean_over_cells([g for g in found if g is not None], len(cells), LEVEL)


def _max_gap(claim: Claim, landscapes: Landscapes) -> Estimate:
    """Largest gap: below a bound where every cell's is, above it where some cell's is at a Bonferroni level."""
    draws, seeds = _all_gaps(claim, landscapes)
    if draws is None:
        return gap.summarise("max_gap_pp", None, 0, seeds, LEVEL)
    cells = [cell_gap(landscape, WEIGHT_DECAYS) for _, landscape in of_cells(claim, landscapes)]
    if any(cell.value is None for cell in cells):
        return gap.summarise("max_gap_pp", None, 0, seeds, LEVEL)
    low = float(np.quantile(draws, (1 - LEVEL) / 2 / len(draws), axis=1).max())
    high = max(cell.high for cell in cells)
    value = max(cell.value for cell in cells if cell.value is not None)
    return Estimate("max_gap_pp", "pp", value, low, high, LEVEL, len(draws), gap.METHOD, (), "more seeds")


def _seed_scores(landscape: Landscape) -> Any:
    """Scores [C, S] of the configurations within 5 pp of the cell's best mean: those a tuner would look at."""
    rows = [row for cut in landscape.slices() for row in cut.scores if np.isfinite(row).any()]
    means = [float(np.nanmean(row)) for row in rows]
    near = [row for row, mean in zip(rows, means, strict=True) if mean >= max(means) - 5]
    return np.array(near).reshape(-1, len(landscape.seeds))


def _gap_minus_seed_sd(claim: Claim, landscapes: Landscapes) -> Estimate:
    mean = _mean_gap(claim, landscapes)
    sd = noise.seed_sd([_seed_scores(landscape) for _, landscape in of_cells(claim, landscapes)], LEVEL)
    if mean.value is None or sd.value is None:
        return unknown("gap_minus_seed_sd_pp", "pp", LEVEL, gap.METHOD, mean.flags or sd.flags, mean.settle)
    d = combine.difference(combine.Span(mean.value, mean.low, mean.high), combine.Span(sd.value, sd.low, sd.high))
    stated = dict(claim.arguments)
    within = position(sd.low, sd.high, Margin(stated["seed_sd_low_pp"], stated["seed_sd_high_pp"]))
    details = {"mean_gap_pp": mean.to_json(), "seed_sd_pp": sd.to_json(), "the paper's seed SD": within}
    return Estimate(
        "gap_minus_seed_sd_pp", "pp", d.value, d.low, d.high, LEVEL, mean.n, f"{gap.METHOD}; chi-squared", (),
        mean.settle, details,
    )  # fmt: skip


def _cost(claim: Claim, landscapes: Landscapes) -> Estimate:
    """Counted from the protocol, not measured."""
    line = len(LRS) * len(SEEDS)
    full = len(LRS) * len(WEIGHT_DECAYS) * len(SEEDS)
    share = line / full
    details = {"runs_line": line, "runs_grid": full}
    return Estimate("cost_ratio", "", share, share, share, 1.0, full, "counted from the protocol", (), "", details)


_ESTIMATORS: dict[str, Callable[[Claim, Landscapes], Estimate]] = {
    "rho": ratios.of_cell,
    "rho_rejects": ratios.of_cell,
    "rho_sgd": ratios.of_cell,
    "rho_pooled": ratios.pooled,
    "slope": _on_line("slope", power_law.slope),
    "intercept_share": _on_line("intercept_share", straight_line.intercept_share),
    "r2": _on_line("r2", lambda fit: straight_line.r_squared(fit, np.random.default_rng(0))),
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
