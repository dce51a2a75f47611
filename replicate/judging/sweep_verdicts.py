"""Anybody's sweep to verdicts: the rules of the trained claims on landscapes of any origin, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from replicate.estimate import fits, gap, power_law, straight_line
from replicate.estimate.line_fit import LineFit
from replicate.estimate.result import Estimate, unknown
from replicate.judging import criteria, secondary
from replicate.judging.quantities import cell_gap, decide
from replicate.judging.ratios import LEVEL, too_few
from replicate.judging.verdict import Evidence, Verdict, not_run
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim
from replicate.paper.protocol import RHO
from replicate.paper.registry import CLAIMS

GAP = "one-dim/gap"
MOST_NAMED = 4
"""More learning rates than these are counted, not named."""


def judge_sweep(landscapes: Sequence[Landscape]) -> dict[str, Any]:
    """`{"cells": [...]}`, one entry a landscape, JSON types throughout; as `replicate judge --json` prints it."""
    by_quantity: dict[str, Claim] = {}
    for claim in CLAIMS:
        by_quantity.setdefault(claim.quantity, claim)
    return {"cells": [_cell(landscape, by_quantity) for landscape in landscapes]}


def _cell(landscape: Landscape, by_quantity: Mapping[str, Claim]) -> dict[str, Any]:
    evidence = Evidence("sweep", probe=True, runs=len(landscape.frame), seeds=len(landscape.seeds))
    out: dict[str, Any] = {"arch": landscape.arch, "dataset": landscape.dataset, "exponent": None, "rivals": {}}
    fit = fits.line(landscape)
    measured = _of_line(fit)
    lacking = _gap_lacks(landscape)
    grid = tuple(float(wd) for wd in sorted(landscape.frame["wd"].unique()))
    if not lacking:
        measured[GAP] = cell_gap(landscape, grid)
    verdicts = {name: decide(by_quantity[found.quantity], found, evidence) for name, found in measured.items()}
    if GAP in verdicts:
        # The paper's own grid ends at 0.3: where more helps, a wider search gains what the paper's would not have.
        against = f"{verdicts[GAP].reason}; against all {len(grid)} weight decays of the sweep, not the paper's eight"
        verdicts[GAP] = replace(verdicts[GAP], reason=against)
    if lacking:
        measured[GAP] = unknown("gap_pp", "pp", LEVEL, gap.METHOD, (), lacking)
        verdicts[GAP] = not_run(by_quantity["gap_pp"], lacking, evidence)
    for name, found in measured.items():
        out[name] = found.to_json()
        if verdicts[name].settle:
            out[name]["settle"] = verdicts[name].settle
    out["beside"] = _beside(landscape, verdicts)
    if fit is not None:
        out["rivals"] = power_law.rivals(fit)
        out["exponent"] = out["rivals"]["exponent"]
    return out | _summary(verdicts, measured)


def _beside(landscape: Landscape, verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """What never decides: the paper's method on this sweep, the direction, and where that method would say otherwise.

    The figures of the paper's own cells are not compared: the sweep's are others.
    """
    published = secondary.published_estimates(landscape)
    out: dict[str, Any] = {"the paper's method": published} if published else {}
    for name, verdict in verdicts.items():
        found = verdict.estimate
        if found is None or not published:
            continue
        if name == "slope":
            out["direction"] = criteria.direction_of_slope(found)
        if word := criteria.disagreement(found.quantity, verdict, published):
            out.setdefault("where they differ", {})[name] = word
    return out


def _of_line(fit: LineFit | None) -> dict[str, Estimate]:
    """What a line through the optima says: ratio, slope, intercept and R²."""
    if fit is None:
        names = {"rho": "rho", "slope": "slope", "intercept": "intercept_share", "r2": "r2"}
        return {name: too_few(quantity) for name, quantity in names.items()}
    return {
        "rho": power_law.ratio(fit),
        "slope": power_law.slope(fit),
        "intercept": straight_line.intercept_share(fit),
        "r2": straight_line.r_squared(fit, np.random.default_rng(0)),
    }


def _gap_lacks(landscape: Landscape) -> str:
    """What the sweep lacks for the cost of tuning the learning rate alone to be judged; empty where nothing."""
    if landscape.metric != "accuracy":
        return "the claim is about points of accuracy, and these are losses"
    lacking = [f"{RHO * cut.lr:.3g} at lr {cut.lr:g}" for cut in landscape.slices() if not gap.on_line(cut).any()]
    if len(lacking) > MOST_NAMED:
        lacking = [*lacking[: MOST_NAMED - 1], f"{len(lacking) - MOST_NAMED + 1} more"]
    return f"no runs at weight decay 0.1 · lr, that is {', '.join(lacking)}" if lacking else ""


def _summary(verdicts: Mapping[str, Verdict], measured: Mapping[str, Estimate]) -> dict[str, Any]:
    return {
        "verdicts": {name: verdict.outcome for name, verdict in verdicts.items()},
        "reasons": {name: verdict.reason for name, verdict in verdicts.items()},
        "flags": sorted({flag for found in measured.values() for flag in found.flags}),
    }
