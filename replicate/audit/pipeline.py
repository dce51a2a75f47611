"""Simulates the paper's pipeline with its claim as the truth: which ratio, R², slope and interval would its grid give?

The truth: at each learning rate the best weight decay is rho * lr, and other weight decays lose the table's drops,
interpolated linearly over ln kappa (next to kappa 1 and beyond the table several curves are tried). Seeds add
independent normal noise. The pipeline: mean over seeds, argmax over the grid's weight decays, least squares through the
origin, and percentiles over all possible resamples of the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from replicate.audit.finding import Check, Finding, from_checks, span
from replicate.audit.intervals import few_seeds, percentile_interval
from replicate.audit.reported import Floats, Reported, need
from replicate.estimate.published import resamples

BEYOND = ("level", "grow", "level at 0")
"""Beyond the table's kappas, the drop stays constant, grows at the last slope, or grows only for kappa above 1."""

INSIDE = ("straight", "quadratic", "flat")
"""Between kappa 1 and its neighbours in the table, the drop is linear in ln kappa, a parabola, or 0 within ZONE."""
ZONE = math.log(2)

CELLS = 200
"""Number of cells simulated for each assumed truth (data set, curve of drops, noise)."""
GROUPS = 2_000
"""Number of simulated papers, each with as many cells as the real one."""
FINE = tuple(np.logspace(-1, 1, 33))
"""Kappas of a grid fine enough to show the claimed line."""


@dataclass(frozen=True)
class Outcome:
    """What the pipeline reports for each of K simulated cells, [K]; the slope is NaN where a best weight decay is 0."""

    rho: Floats
    r2: Floats
    slope: Floats
    half_width: Floats


def expected_drop(paper: Reported, dataset: str, x: Floats, beyond: str) -> Floats:
    """Accuracy lost, pp, at x = ln kappa, interpolated in the paper's table of drops.

    kappa is the weight decay as a multiple of the best one; x is -inf for weight decay 0. `beyond`, one of `BEYOND`, is
    how the drop goes on beyond the table's largest and smallest kappa.
    """
    rows = paper.drops_on(dataset)
    kappas = sorted({*rows, 1.0})
    need(min(kappas) < 1 < max(kappas), f"drops at kappas below and above 1 on {dataset}")
    at = np.log(kappas)
    drops = np.array([0.0 if k == 1 else rows[k].drop.value.value for k in kappas])
    out = np.interp(x, at, drops)
    if beyond in ("grow", "level at 0"):
        slope = max((drops[-1] - drops[-2]) / (at[-1] - at[-2]), 0.0)
        out = np.where(x > at[-1], drops[-1] + slope * (np.maximum(x, at[-1]) - at[-1]), out)
    if beyond == "grow":
        slope = max((drops[0] - drops[1]) / (at[1] - at[0]), 0.0)
        far = np.maximum(x, -50.0)  # keeps weight decay 0, at minus infinity, finite
        out = np.where(x < at[0], drops[0] + slope * (at[0] - np.minimum(far, at[0])), out)
    return np.asarray(out)


def inside_table(paper: Reported, dataset: str, x: Floats, drop: Floats, inside: str) -> Floats:
    """`drop`, replaced by the curve `inside`, one of `INSIDE`, between the two kappas of the table nearest to 1."""
    if inside == "flat":
        return np.where(np.abs(x) <= ZONE + 1e-9, 0.0, drop)
    if inside == "quadratic":
        rows = paper.drops_on(dataset)
        for nearest in (max(k for k in rows if k < 1), min(k for k in rows if k > 1)):
            edge = math.log(nearest)
            near = (x * edge >= 0) & (np.abs(x) <= abs(edge))
            drop = np.where(near, rows[nearest].drop.value.value * (x / edge) ** 2, drop)
    return drop


def simulate(
    grid: Sequence[tuple[float, Sequence[float]]],
    lost: Callable[[float, Floats], Floats],
    sd: float,
    seeds: int,
    cells: int,
    rng: np.random.Generator,
) -> Outcome:
    """The pipeline on `cells` simulated cells.

    `lost(lr, wds)` is the accuracy lost at each weight decay, and `sd` the standard deviation between seeds, both in
    pp.
    """
    shares, probability = resamples(seeds)
    lrs = np.array([lr for lr, _ in grid])
    best, resampled = [], []
    for lr, values in grid:
        wds = np.array(values, dtype=np.float64)
        scores = rng.normal(0, sd, (cells, len(wds), seeds)) - lost(lr, wds)[None, :, None]
        best.append(wds[scores.mean(axis=2).argmax(axis=1)])
        resampled.append(wds[(scores @ shares.T).argmax(axis=1)])
    optima = np.stack(best, axis=1)
    rho = optima @ lrs / (lrs @ lrs)
    left = ((optima - rho[:, None] * lrs) ** 2).sum(axis=1)
    total = ((optima - optima.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    logs = np.log(lrs) - np.log(lrs).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(total > 1e-18, 1 - left / total, 0.0)
        slope = np.log(optima) @ logs / (logs @ logs)
    rhos = np.stack(resampled, axis=2) @ lrs / (lrs @ lrs)
    low, high = percentile_interval(rhos, probability)
    return Outcome(rho, r2, np.where((optima > 0).all(axis=1), slope, np.nan), (high - low) / 2)


def _lost(paper: Reported, dataset: str, beyond: str, inside: str) -> Callable[[float, Floats], Floats]:
    def lost(lr: float, wds: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            x = np.log(wds / (paper.rho * lr))
        drop = expected_drop(paper, dataset, x, beyond)
        return inside_table(paper, dataset, np.where(np.isfinite(x), x, -1e9), drop, inside)

    return lost


def median_range(values: Floats, size: int, rng: np.random.Generator) -> tuple[float, float]:
    """Smallest and largest median in GROUPS draws of `size` cells from `values`; NaN counts as minus infinity."""
    filled = np.where(np.isnan(values), -np.inf, values)
    middle = np.sort(rng.choice(filled, size=(GROUPS, size)), axis=1)[:, [(size - 1) // 2, size // 2]]
    medians = np.where(np.isinf(middle[:, 0]), middle[:, 0], middle.mean(axis=1))
    return float(medians.min()), float(medians.max())


def _reported(paper: Reported) -> dict[str, tuple[float, float]]:
    """`rho`, `r2`, … → smallest and largest median over cells that the rounding of the table allows."""

    def of(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return float(np.median([v[0] for v in values])), float(np.median([v[1] for v in values]))

    out = {"rho": of([(r.rho.value.low, r.rho.value.high) for r in paper.ratios])}
    if all(r.r2 for r in paper.ratios):
        out["r2"] = of([(r.r2.low, r.r2.high) for r in paper.ratios if r.r2])
    if all(r.slope for r in paper.ratios):
        out["slope"] = of([(r.slope.value.low, r.slope.value.high) for r in paper.ratios if r.slope])
    if all(r.rho.has_interval for r in paper.ratios):
        out["half_width"] = of([r.rho.half_width for r in paper.ratios])
    return out


def _noise(paper: Reported) -> tuple[float, ...]:
    """The stated standard deviations between seeds, pp."""
    figure = paper.figure("one-dim/seed-sd").measured
    return tuple(end.value for end in figure.interval) if figure.has_interval else (figure.value.value,)


LABELS = {"rho": "ratio", "r2": "R²", "slope": "slope", "half_width": "half width of the interval"}


def on_truth(paper: Reported) -> Finding:
    """`audit/pipeline-on-truth`: the table's median ratio, R², slope and half width against simulated ones."""
    need(paper.drops, "a table of accuracy drops")
    seeds = few_seeds(paper)
    rng = np.random.default_rng(0)
    reported, size = _reported(paper), len(paper.ratios)
    datasets = [d for d in paper.datasets if any(r.dataset == d for r in paper.drops)] or [paper.drops[0].dataset]
    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    for dataset, beyond, inside, sd in product(datasets, BEYOND, INSIDE, _noise(paper)):
        outcome = simulate(paper.grid, _lost(paper, dataset, beyond, inside), sd, seeds, CELLS, rng)
        found = {name: median_range(getattr(outcome, name), size, rng) for name in reported}
        ranges[f"{dataset}; drop beyond the table: {beyond}, next to 1: {inside}; SD {sd:g}"] = found
    checks, together, source = [], set(ranges), "table of ratios"
    for name, (low, high) in reported.items():
        fitting = {t for t, found in ranges.items() if found[name][0] <= high + 1e-9 and found[name][1] >= low - 1e-9}
        together &= fitting
        what, each = f"median {LABELS[name]}", "; ".join(dict.fromkeys(span(*r[name]) for r in ranges.values()))
        decides = name != "half_width"
        checks.append(Check(what, span(low, high), each, holds=bool(fitting), source=source, decides=decides))
    what, cells, truths = "all medians under one truth", f"{size} cells", f"{len(together)} of {len(ranges)} truths"
    checks.append(Check(what, cells, truths, holds=bool(together), source=source, decides=True))
    seen = visible(paper, datasets[0], seeds, rng)
    leverage = paper.lrs**2 / (paper.lrs @ paper.lrs)
    overall = {
        name: (min(r[name][0] for r in ranges.values()), max(r[name][1] for r in ranges.values())) for name in reported
    }
    each = ", ".join(f"{LABELS[name]} {span(*overall[name])} (paper {span(*reported[name])})" for name in reported)
    return from_checks(
        checks,
        source="sections 3.2 and 4.1",
        claimed=f"medians: {', '.join(f'{LABELS[n]} {span(*v)}' for n, v in reported.items())}",
        evidence="With its claim and its drops as the truth, the paper's pipeline on the paper's grid gives medians "
        f"over {size} cells of {each}; on a grid of {len(FINE)} kappas the interval's half width is about "
        f"{seen['table']:.2g} with the table's drops and {seen['flat']:.2g} if nothing is lost within a factor 2.",
        assumes=f"independent normal seeds with the stated standard deviation; {CELLS} simulated cells per truth, "
        f"{GROUPS:,} papers drawn from them; beyond the table's kappas the drop stays constant, keeps growing, or "
        "keeps growing only above 1; next to kappa 1 it is linear in ln kappa, a parabola, or 0 within a factor 2",
        consistent_if="the best weight decays were searched on another grid than the one described",
        details={
            "ranges": ranges,
            "on a grid that holds the line": seen,
            "share of the ratio decided by each learning rate": leverage.tolist(),
        },
    )


def visible(paper: Reported, dataset: str, seeds: int, rng: np.random.Generator) -> dict[str, Any]:
    """Median half width, R² and slope on a fine grid around the line: with the table's drops, with none inside ZONE."""
    grid = [(float(lr), [k * paper.rho * float(lr) for k in FINE]) for lr in paper.lrs]
    sd = float(np.mean(_noise(paper)))
    out: dict[str, Any] = {}
    for name, inside in (("table", "straight"), ("flat", "flat")):
        outcome = simulate(grid, _lost(paper, dataset, "level", inside), sd, seeds, CELLS, rng)
        out[name] = float(np.median(outcome.half_width))
        out[f"{name}: R²"] = float(np.median(outcome.r2))
        out[f"{name}: slope"] = float(np.median(outcome.slope))
    return out
