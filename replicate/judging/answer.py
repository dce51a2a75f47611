"""The practical results of a sweep: a summary of each learning rate, and which weight decay to set at any of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from replicate.estimate import by_rate, fits, power_law, surface
from replicate.estimate.by_rate import RateRow, Where
from replicate.estimate.flags import Flag
from replicate.estimate.line_fit import MIN_INFORMATIVE, LineFit
from replicate.estimate.missing_runs import SAME
from replicate.estimate.next_runs import Plan, next_runs, next_trials
from replicate.estimate.surface import Ridge
from replicate.landscape.landscape import Landscape
from replicate.paper.protocol import RHO
from replicate.store.strict import High, Low

EXTRAPOLATED = 3.0
"""Laws are extrapolated at most by this factor beyond the learning rates that were run."""
APART = 1.5
"""A learning rate halfway between two that were run is reported only if both differ from it by this factor or more."""

MOST_NEXT = 100
"""Largest number of suggested runs that can be requested."""


@dataclass(frozen=True)
class Setting:
    """The range of weight decays to set at a learning rate."""

    lr: float
    run: bool
    """Whether the sweep has runs at `lr`; if not, the range comes from a power law fitted to other learning rates."""
    low: Low
    """Lower end of the range; 0 if the data do not bound it (but see `any_below`)."""
    high: High
    why_not: str = ""
    """Why there is no range; empty if there is one."""
    asked: bool = False
    """Whether the caller asked for this learning rate."""
    any_below: bool = False
    """Whether every weight decay from 0 to `high` does equally well; if not, `low` = 0 means no known lower end."""
    best_run: float | None = None
    """The best weight decay that was run at `lr`."""


@dataclass(frozen=True)
class Answer:
    """The practical results of one cell (a model on a data set)."""

    by_lr: tuple[RateRow, ...]
    best: RateRow | None
    """The learning rate with the best score."""
    settings: tuple[Setting, ...]
    noise: str
    """How the noise between seeds was determined, in words."""
    steps: float | None
    """Optimiser steps of each run, if known; ηλ · steps is the decay of the weights over training."""
    constant: float | None
    """Constant of the law that the data support, best λ = constant · η^b: ηλ for b = -1, λ for 0, λ/η for 1."""
    searched: bool = False
    """Whether the runs are a random search; if so, `by_lr` is read from a surface fitted to all of them."""
    plan: Plan | None = None
    """Suggested further runs; None if not asked for."""


@dataclass(frozen=True)
class Asked:
    """What a caller requests in addition to the verdicts."""

    at: tuple[float, ...] = ()
    """Learning rates for which to report a weight decay; empty: the best one and those halfway to its neighbours."""
    runs: int = 0
    """Number of further runs to suggest."""


NOTHING_ELSE = Asked()


def of_cell(landscape: Landscape, exponent: int | None, asked: Asked) -> Answer:
    """The practical results of `landscape`. `exponent`: b of the law best wd ∝ lr^b, if the data support one."""
    fit = fits.line(landscape)
    found = by_rate.rows(landscape, fit, RHO)
    best = by_rate.best_of(found)
    wanted = asked.at or _of_interest(found, best)
    return Answer(
        by_lr=found,
        best=best,
        settings=tuple(replace(_setting(lr, found, fit), asked=bool(asked.at)) for lr in wanted),
        noise=_noise(landscape, _of_repeats(fit, found)),
        steps=landscape.steps,
        constant=None if fit is None or exponent is None else _constant(fit, exponent),
        plan=next_runs(landscape, fit, asked.runs, fits.generator(landscape)) if asked.runs else None,
    )


def of_search(landscape: Landscape, found: Ridge | None, exponent: int | None, asked: Asked) -> Answer:
    """The practical results of a random search. `found`: the best weight decay along the learning rate, if fitted."""
    frame = landscape.frame
    known = frame[np.isfinite(frame["score"])]
    best = None
    if len(known):
        top = known.loc[known["score"].idxmax()]
        best = by_rate.of_trial(float(top["lr"]), float(top["wd"]), float(top["score"]))
    wanted = asked.at or ((best.lr,) if best is not None else ())
    rows: tuple[RateRow, ...] = ()
    settings: tuple[Setting, ...] = ()
    constant, plan = None, Plan((), None, None) if asked.runs else None
    if found is not None:
        rows = by_rate.of_ridge(found, frame, RHO)
        settings = tuple(replace(_on_ridge(lr, found), asked=bool(asked.at)) for lr in wanted)
        value = surface.ratio(found).value
        if exponent is not None and value is not None:
            constant = value * float(np.exp((1 - exponent) * np.log(found.lrs).mean()))
        if asked.runs:
            plan = next_trials(landscape, found, asked.runs, fits.generator(landscape))
    off = "estimated from the trials' distances from the fitted surface" if found is not None else "not estimated"
    noise = _noise(landscape, off)
    return Answer(rows, best, settings, noise, landscape.steps, constant, searched=True, plan=plan)


def _on_ridge(lr: float, found: Ridge) -> Setting:
    if not found.lrs[0] / EXTRAPOLATED <= lr <= found.lrs[-1] * EXTRAPOLATED:
        return Setting(lr, False, 0.0, math.inf, f"more than a factor {EXTRAPOLATED:g} beyond the learning rates tried")
    run = bool(found.lrs[0] <= lr <= found.lrs[-1])
    (low,), (high,) = found.at([lr])
    why_not = "the trials do not bound the best weight decay" if np.isinf(low) and np.isinf(high) else ""
    return Setting(lr, run, float(np.exp(low)), float(np.exp(high)), why_not)


def _of_interest(found: Sequence[RateRow], best: RateRow | None) -> tuple[float, ...]:
    """The best learning rate, and the learning rates halfway to its neighbours."""
    if best is None:
        return ()
    lrs = [row.lr for row in found]
    i = lrs.index(best.lr)
    halves = [float(f"{math.sqrt(best.lr * other):.1g}") for other in lrs[max(i - 1, 0) : i] + lrs[i + 1 : i + 2]]
    between = [lr for lr in halves if all(max(lr / other, other / lr) >= APART for other in lrs)]
    return tuple(sorted([best.lr, *between]))


def _setting(lr: float, found: Sequence[RateRow], fit: LineFit | None) -> Setting:
    own = next((row for row in found if abs(row.lr / lr - 1) <= SAME), None)
    if own is not None and own.where in (Where.FLAT, Where.ANY_BELOW):
        return Setting(own.lr, True, own.alike[0], own.alike[-1], any_below=True, best_run=own.best_wd)
    if own is not None and own.where in (Where.INSIDE, Where.ABOVE, Where.BELOW):
        return Setting(own.lr, True, own.low, own.high, best_run=own.best_wd)
    run = own is not None
    lrs = [row.lr for row in found]
    if not min(lrs) / EXTRAPOLATED * (1 - SAME) <= lr <= max(lrs) * EXTRAPOLATED * (1 + SAME):
        return Setting(lr, run, 0.0, math.inf, f"more than a factor {EXTRAPOLATED:g} beyond the learning rates run")
    if fit is None or fit.bounded < MIN_INFORMATIVE:
        return Setting(lr, run, 0.0, math.inf, "too few learning rates have a bounded best weight decay")
    if Flag.LAW_BREAKS in fit.breaks(fit.places, fit.misfit_p):
        return Setting(lr, run, 0.0, math.inf, "no power law fits the optima of the other learning rates")
    low, high = (float(np.exp(end)) for end in power_law.place(fit, lr))
    # A bound far beyond all weight decays that were run is no advice.
    low = 0.0 if low < min(float(np.exp(c.start)) for c in fit.curves) / EXTRAPOLATED else low
    high = math.inf if high > max(row.largest for row in found) * EXTRAPOLATED else high
    why_not = "the other learning rates do not bound the best weight decay" if low == 0 and math.isinf(high) else ""
    return Setting(lr, run, low, high, why_not)


def _noise(landscape: Landscape, otherwise: str) -> str:
    return otherwise if landscape.noise_sd is None else f"given: a standard deviation of {landscape.noise_sd:.3g}"


def _of_repeats(fit: LineFit | None, found: Sequence[RateRow]) -> str:
    if fit is None and any(row.where is Where.EQUAL for row in found):
        return "not estimated, as all runs have the same score"
    if fit is None:
        return "not estimated, as no learning rate has three weight decays"
    dof = sum(float(c.fitted.points.noise.dof.sum()) for c in fit.curves if c.fitted)
    if dof < 1:
        return "unknown, as no run is repeated with another seed; the scatter around smooth curves is used instead"
    return f"estimated from repeated runs ({dof:.0f} degrees of freedom)"


def _constant(fit: LineFit, exponent: int) -> float | None:
    value, _, _ = power_law.log_ratio(fit)
    return None if value is None else float(np.exp(value + (1 - exponent) * fit.center))
