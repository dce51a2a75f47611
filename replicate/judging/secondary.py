"""Secondary results, reported beside a verdict and never deciding it: what the paper's method and numbers would say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from replicate.estimate import best_set, fits, gap, power_law
from replicate.estimate import published as papers_method
from replicate.estimate.estimate import Estimate, finite
from replicate.estimate.published import Published
from replicate.judging.rule import position
from replicate.judging.select import Selected, only
from replicate.judging.verdict import (
    CONTRADICTED,
    REPLICATED,
    Anova,
    IndistinguishableAt,
    Outcome,
    PapersFigure,
    Prediction,
    Secondary,
    Verdict,
)
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim, Figure, Margin
from replicate.paper.protocol import WEIGHT_DECAYS
from replicate.text import interval

IN_LOGARITHMS = ("rho", "rho_pooled", "rho_rejects", "rho_sgd")
"""Quantities that are compared on a logarithmic scale."""
OF_CELL = ("rho", "rho_rejects", "rho_sgd", "slope", "intercept_share", "r2")
"""Quantities of one cell to which the paper's own method applies."""
SIGNIFICANT = 0.05
"""Level at which the paper's method rejects."""


def beside(claim: Claim, selected: Selected, verdict: Verdict) -> Verdict:
    """`verdict` with the secondary results that apply to its quantity and estimate."""
    found, estimate = verdict.secondary, verdict.estimate
    if claim.quantity in OF_CELL:
        landscape = only(selected)
        found = replace(found, published=published(landscape), indistinguishable=_indistinguishable(landscape))
        if claim.quantity == "slope" and (fit := fits.line(landscape)) is not None:
            found = replace(found, rivals=power_law.rivals(fit))
    elif claim.quantity == "gap_pp":
        grids = only(selected), WEIGHT_DECAYS
        found = replace(found, plug_in_gap_pp=gap.plug_in(*grids), cross_fitted_gap_pp=gap.cross_fitted(*grids))
    elif claim.quantity == "max_ratio":
        found = replace(found, anova=_anova(selected))
    if estimate is not None:
        found = of_figure(claim, estimate, found)
        if found.published is not None:
            found = replace(found, disagreement=disagreement(verdict, estimate, found.published))
    return replace(verdict, secondary=found)


def published(landscape: Landscape) -> Published | None:
    """The paper's method on one cell; None with fewer than two learning rates that have at least two weight decays."""
    slices = [cut for cut in landscape.slices() if np.isfinite(cut.scores).any(axis=1).sum() >= 2]
    return papers_method.published_fit(slices) if len(slices) >= 2 else None


def _anova(selected: Selected) -> Anova | None:
    """One-way ANOVA over architectures of best wd run / lr, one value per cell and lr: the paper's F(4, 45)."""
    groups: dict[str, list[float]] = {}
    for one in selected:
        slices = one.landscape.slices()
        seeds = slices[0].scores.shape[1]
        best = papers_method.argmax_wds(slices, np.full((1, seeds), 1 / seeds))[0]
        groups.setdefault(one.cell.arch, []).extend(best / np.array([s.lr for s in slices]))
    arrays = [np.array(g) for g in groups.values()]
    if len(arrays) < 2 or sum(len(a) for a in arrays) <= len(arrays):
        return None
    f, p, between, within = papers_method.anova(arrays)
    return Anova(finite(f), p, (between, within))


def _indistinguishable(landscape: Landscape) -> tuple[IndistinguishableAt, ...]:
    found = best_set.best_sets(landscape.slices())
    return tuple(IndistinguishableAt(one.lr, one.wds, one.flags) for one in found)


def of_figure(claim: Claim, estimate: Estimate, found: Secondary) -> Secondary:
    """`found` with the paper's number, the prediction interval and the effect's direction, as far as they apply."""
    figure = claim.figure
    if figure is not None and figure.unit == estimate.unit and estimate.closed and not claim.direction:
        # The number in a claim with a direction is a bound, which our interval need not contain.
        inside = estimate.low <= figure.value <= estimate.high
        found = replace(found, papers_figure=PapersFigure(figure.value, inside))
        if (ends := prediction_interval(figure, estimate, claim.quantity in IN_LOGARITHMS)) is not None:
            held = estimate.value is not None and ends[0] <= estimate.value <= ends[1]
            found = replace(found, prediction=Prediction(*ends, held))
    if claim.direction and estimate.value is not None:
        return replace(found, direction=_side(estimate.low, estimate.high, claim.margin, claim.direction))
    return replace(found, direction=direction_of_slope(estimate)) if claim.quantity == "slope" else found


def direction_of_slope(found: Estimate) -> str:
    """Whether the best weight decay rises with the learning rate, as the paper claims."""
    return "as claimed: rises" if found.low > 0 else "the other way: falls" if found.high < 0 else "can't be told"


def prediction_interval(figure: Figure, found: Estimate, logarithms: bool) -> tuple[float, float] | None:
    """The interval in which our estimate should fall if both estimate the same quantity (Patil, Peng, Leek 2016).

    The paper's number plus and minus the half-widths of its and our interval, added in quadrature; in logarithms if
    `logarithms`. None if the paper's number has no interval.
    """
    if figure.low is None or figure.high is None or (logarithms and min(figure.low, found.low) <= 0):
        return None
    to, back = (math.log, math.exp) if logarithms else (float, float)
    half = math.hypot((to(figure.high) - to(figure.low)) / 2, (to(found.high) - to(found.low)) / 2)
    return back(to(figure.value) - half), back(to(figure.value) + half)


def _side(low: float, high: float, margin: Margin, direction: str) -> str:
    edge = margin.low if direction == "higher" else margin.high
    claimed, other = (low >= edge, high < edge) if direction == "higher" else (high <= edge, low > edge)
    return f"{'as claimed' if claimed else 'the other way' if other else 'perhaps'}: {direction} than {edge:g}"


def by_the_papers_method(quantity: str, found: Published, margin: Margin) -> tuple[Outcome, str] | None:
    """Outcome and figures by the paper's method; None if the method gives no number for the quantity.

    The ratio is judged by its interval; slope and R² by their values alone, as the method gives them no intervals; and
    the intercept by its significance.
    """
    if quantity in IN_LOGARITHMS:
        ends = found.rho_low, found.rho_high
        return position(*ends, margin), f"{found.rho:.3g} {interval(*ends)}"
    value = {"slope": found.slope, "r2": found.r2}.get(quantity)
    if value is not None:
        return REPLICATED if margin.low <= value <= margin.high else CONTRADICTED, f"{value:.3g}"
    if quantity == "intercept_share" and found.intercept_p is not None:
        return CONTRADICTED if found.intercept_p < SIGNIFICANT else REPLICATED, f"p {found.intercept_p:.2g}"
    return None


def disagreement(verdict: Verdict, estimate: Estimate, found: Published) -> str:
    """A sentence on the outcome by the paper's method; empty if it is the same as that of `verdict`."""
    theirs = by_the_papers_method(estimate.quantity, found, verdict.margin)
    if theirs is None or theirs[0] == verdict.outcome:
        return ""
    outcome, figures = theirs
    if estimate.quantity == "intercept_share":
        why = "it treats an intercept that is not significant as 0"
    elif estimate.quantity in ("slope", "r2"):
        why = "it gives no interval, and treats the best run of each learning rate as its optimum"
    else:
        why = "it treats the best run of each learning rate as its optimum and ignores the error of that"
    return f"the paper's method would say {outcome}: {figures}; {why}"
