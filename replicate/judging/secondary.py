"""Criteria that are shown beside a verdict and never decide it: above all, the paper's own method."""

from __future__ import annotations

from typing import Any

import numpy as np

from replicate.estimate import best_set, fits, gap, power_law, published
from replicate.estimate.result import finite
from replicate.judging.select import Landscapes, of_cells, only
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim
from replicate.paper.protocol import WEIGHT_DECAYS


def secondary(claim: Claim, landscapes: Landscapes) -> dict[str, Any]:
    """Criteria that are shown beside the verdict and never decide it: above all, the paper's own method."""
    if claim.quantity in ("rho", "rho_rejects", "rho_sgd", "slope", "intercept_share", "r2"):
        landscape = only(claim, landscapes)
        paper = published_estimates(landscape)
        beside: dict[str, Any] = {"the paper's method": paper} if paper else {}
        beside |= {"indistinguishable from the best": _sets(landscape)}
        fit = fits.line(landscape)
        if claim.quantity == "slope" and fit is not None:
            beside["rival exponents"] = power_law.rivals(fit)
        return beside
    if claim.quantity == "gap_pp":
        landscape = only(claim, landscapes)
        return {
            "the paper's method (plug-in)": {"gap_pp": gap.plug_in(landscape, WEIGHT_DECAYS)},
            "cross-fitted over seeds": {"gap_pp": gap.cross_fitted(landscape, WEIGHT_DECAYS)},
        }
    if claim.quantity == "max_ratio":
        return _anova(claim, landscapes)
    return {}


def published_estimates(landscape: Landscape) -> dict[str, Any]:
    """The paper's method on one cell, JSON types; empty with fewer than two learning rates."""
    slices = [cut for cut in landscape.slices() if np.isfinite(cut.scores).any()]
    if len(slices) < 2:
        return {}
    fit = published.published_fit(slices)
    return {
        "rho": fit.rho, "rho_low": fit.rho_low, "rho_high": fit.rho_high, "p_rho_0.10": finite(fit.p_rho),
        "slope": finite(fit.slope), "intercept": finite(fit.intercept), "intercept_p": finite(fit.intercept_p),
        "r2": fit.r2, "argmax_wd": {f"{s.lr:g}": float(w) for s, w in zip(slices, fit.optima, strict=True)},
    }  # fmt: skip


def _anova(claim: Claim, landscapes: Landscapes) -> dict[str, Any]:
    """One-way ANOVA of argmax / lr over architectures, one value a cell, learning rate: the paper's F(4, 45) ."""
    groups: dict[str, list[float]] = {}
    for cell, landscape in of_cells(claim, landscapes):
        slices = landscape.slices()
        seeds = slices[0].scores.shape[1]
        best = published.argmax_wds(slices, np.full((1, seeds), 1 / seeds))[0]
        groups.setdefault(cell.arch, []).extend(best / np.array([s.lr for s in slices]))
    arrays = [np.array(g) for g in groups.values()]
    if len(arrays) < 2 or sum(len(a) for a in arrays) <= len(arrays):
        return {}
    f, p, between, within = published.anova(arrays)
    return {"ANOVA over architectures": {"F": finite(f), "p": p, "df": [between, within], "of": "argmax / lr"}}


def _sets(landscape: Landscape) -> dict[str, Any]:
    """By learning rate, the weight decays that cannot be told from the best, and whether the set is open."""
    return {
        f"{found.lr:g}": {"wds": list(found.wds), "flags": list(found.flags)}
        for found in best_set.best_sets(landscape.slices())
    }
