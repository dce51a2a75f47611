"""Statements on robustness checks and on published recipes, compared with the paper's table and with those recipes."""

from __future__ import annotations

import math

import numpy as np

from replicate.audit.finding import Check, Finding, failing, from_checks, holding, span
from replicate.audit.reported import Reported, need

CLOSE = 10.0
"""A ratio within this factor of the claimed one would still count as close to it."""
BASELINE = (("resnet50", "imagenet"), ("vit_s16", "imagenet"))
"""(architecture, data set) of the paper's check with longer training."""


def robust_range(paper: Reported) -> Finding:
    """`audit/robust-range`: ratios of the robustness checks compared with the pooled interval and the table."""
    low, high = paper.figure("rho").measured.interval
    claimed, checks = f"{low.text} to {high.text}", []
    for figure in paper.figures:
        if not figure.name.startswith(("robust/schedule/", "robust/batch", "robust/long")):
            continue
        ends = figure.measured.interval if figure.measured.has_interval else (figure.value, figure.value)
        inside, found = low.value <= ends[0].value and ends[1].value <= high.value, span(ends[0].value, ends[1].value)
        checks.append(Check(figure.name, f"within {claimed}", found, holds=inside, source=figure.source))
    need(checks, "ratios of robustness checks")
    standard = [row for row in paper.ratios if (row.arch, row.dataset) == BASELINE[0]]
    if standard and paper.states("robust/schedule/cosine"):
        cosine, rho = paper.figure("robust/schedule/cosine"), standard[0].rho.value
        checks.append(cosine.check("cosine against the table", rho.low, rho.high, recomputed=rho.text))
    return from_checks(
        checks,
        source="section 4.4",
        claimed=f"ratios within {claimed}",
        evidence=f"{holding(checks)} ratios of the robustness checks lie in the pooled interval and agree with the "
        "table.",
        assumes="only the printed figures",
        consistent_if="a ratio is misprinted",
    )


def baseline(paper: Reported) -> Finding:
    """`audit/300-epochs-baseline`: the ratio from which longer training is said to start, compared with the table."""
    figure = paper.figure("robust/long/before")
    rows = [row for row in paper.ratios if (row.arch, row.dataset) in BASELINE]
    need(len(rows) == len(BASELINE), f"the cells {', '.join('-'.join(cell) for cell in BASELINE)}")
    mean = float(np.mean([row.rho.value.value for row in rows]))
    slack, text = rows[0].rho.value.half, figure.value.text
    each = ", ".join(f"{row.arch} {row.rho.value.text}" for row in rows)
    return from_checks(
        [figure.check("mean of the two cells", mean - slack, mean + slack, recomputed=f"{mean:.4f}")],
        claimed=f"{text} before more epochs",
        evidence=f"The two cells of the check have ratios of {each}, {mean:.4f} on average, but the check is said to "
        f"start from {text}.",
        assumes="the check starts from the table's own runs, averaged over the two cells",
        consistent_if="the baseline is that of ResNet-50 alone, or the pooled ratio",
    )


def recipe_arithmetic(paper: Reported) -> Finding:
    """`audit/recipe-arithmetic`: ratio wd / lr and shrinkage lr * wd of a published recipe and of the claimed one."""
    lr, wd = paper.value("recipe/learning-rate"), paper.value("recipe/weight-decay")
    own = paper.rho * lr
    rows = [
        ("recipe/ratio", wd / lr),
        ("recipe/claimed-weight-decay", own),
        ("recipe/shrinkage", lr * wd),
        ("recipe/claimed-shrinkage", lr * own),
        ("recipe/shrinkage-factor", wd / own),
    ]
    checks = [paper.figure(name).check(name.partition("/")[2], x) for name, x in rows if paper.states(name)]
    need(checks, f"the figures {', '.join(name for name, _ in rows)}")
    return from_checks(
        checks,
        source="section 5",
        claimed=", ".join(f"{c.what} {c.printed}" for c in checks),
        evidence=f"{holding(checks)} figures of the comparison with a published recipe are correct.",
        assumes="a step of AdamW shrinks the weights by lr x wd",
        consistent_if="a figure is misprinted",
    )


def recipes(paper: Reported) -> Finding:
    """`audit/recipes`: is the claimed ratio close to that of published recipes, as section 5 says?"""
    need(paper.recipes, "published recipes")
    checks, ratios = [], {}
    for recipe in paper.recipes:
        ratio = recipe.weight_decay / recipe.lr
        ratios[recipe.name] = ratio / paper.rho
        near, what = abs(math.log(ratio / paper.rho)) <= math.log(CLOSE), f"{recipe.name}, wd / lr"
        close = f"close to {paper.rho:g}"
        checks.append(Check(what, close, f"{ratio:g}", holds=near, source=recipe.source, decides=True))
    each = ", ".join(f"{name} {factor:,.0f} times" for name, factor in ratios.items())
    ratios_are = "ratios of weight decay to learning rate far from" if failing(checks) else "ratios close to"
    return from_checks(
        checks,
        source="section 5",
        claimed=f"{paper.rho:g} is close to what published recipes use",
        evidence=f"Published recipes have {ratios_are} {paper.rho:g}: {each} as large.",
        assumes=f"AdamW recipes in the same convention; close is within a factor {CLOSE:g}",
        consistent_if="other recipes are meant, and the paper names them",
    )
