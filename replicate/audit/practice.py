"""What the paper says of its own robustness checks and of others' recipes, against its table and those recipes."""

from __future__ import annotations

import math

import numpy as np

from replicate.audit.finding import Check, Finding, from_checks, span
from replicate.audit.reported import Reported, need

CLOSE = 10.0
"""A ratio within this factor of the claimed one would still count as close to it."""
BASELINE = (("resnet50", "imagenet"), ("vit_s16", "imagenet"))
"""The cells of the training-length check."""


def robust_range(paper: Reported) -> Finding:
    """`audit/robust-range`: ratios of the robustness checks against the pooled interval and the table."""
    low, high = paper.figure("rho").measured.interval
    checks = []
    for figure in paper.figures:
        if not figure.name.startswith(("robust/schedule/", "robust/batch", "robust/long")):
            continue
        ends = figure.measured.interval if figure.measured.has_interval else (figure.measured.value,) * 2
        inside = low.value <= ends[0].value and ends[1].value <= high.value
        checks.append(
            Check(
                figure.name,
                f"within {low.text} to {high.text}",
                span(ends[0].value, ends[1].value),
                inside,
                figure.source,
            )
        )
    need(checks, "ratios of robustness checks")
    standard = [row for row in paper.ratios if (row.arch, row.dataset) == BASELINE[0]]
    if standard and paper.states("robust/schedule/cosine"):
        cosine = paper.figure("robust/schedule/cosine")
        rho = standard[0].rho.value
        checks.append(
            Check("cosine against the table", cosine.measured.value.text, rho.text,
                  cosine.measured.value.meets(rho.low, rho.high), cosine.source)
        )  # fmt: skip
    fine = sum(c.holds for c in checks)
    return from_checks(
        "audit/robust-range", "section 4.4", f"ratios within {low.text} to {high.text}", checks,
        f"{fine} of {len(checks)} ratios of the robustness checks lie in the pooled interval and fit the table.",
        "the printed figures alone", "a ratio is misprinted",
    )  # fmt: skip


def baseline(paper: Reported) -> Finding:
    """`audit/300-epochs-baseline`: the ratio from which more epochs are said to move, against the table's cells."""
    figure = paper.figure("robust/long/before")
    rows = [row for row in paper.ratios if (row.arch, row.dataset) in BASELINE]
    need(len(rows) == len(BASELINE), f"the cells {', '.join('-'.join(cell) for cell in BASELINE)}")
    mean = float(np.mean([row.rho.value.value for row in rows]))
    slack = rows[0].rho.value.half
    value = figure.measured.value
    checks = [
        Check(
            "mean of the two cells", value.text, f"{mean:.4f}", value.meets(mean - slack, mean + slack), figure.source
        )
    ]
    each = ", ".join(f"{row.arch} {row.rho.value.text}" for row in rows)
    return from_checks(
        "audit/300-epochs-baseline", figure.source, f"{value.text} before more epochs", checks,
        f"The two cells of the check have ratios of {each}, {mean:.4f} on average, where the check starts from "
        f"{value.text}.",
        "the check starts from the table's own runs, averaged over the two cells",
        "the baseline is that of ResNet-50 alone, or the pooled ratio",
    )  # fmt: skip


def recipe_arithmetic(paper: Reported) -> Finding:
    """`audit/recipe-arithmetic`: ratio and shrinkage of a published recipe and of the claimed one."""
    lr, wd = paper.figure("recipe/learning-rate").measured.value.value, paper.value("recipe/weight-decay")
    own = paper.rho * lr
    rows = [
        ("recipe/ratio", wd / lr),
        ("recipe/claimed-weight-decay", own),
        ("recipe/shrinkage", lr * wd),
        ("recipe/claimed-shrinkage", lr * own),
        ("recipe/shrinkage-factor", wd / own),
    ]
    checks = [
        Check(name.partition("/")[2], paper.figure(name).measured.value.text, f"{expected:.3g}",
              paper.figure(name).measured.value.meets(expected), paper.figure(name).source)
        for name, expected in rows if paper.states(name)
    ]  # fmt: skip
    need(checks, f"the figures {', '.join(name for name, _ in rows)}")
    return from_checks(
        "audit/recipe-arithmetic", "section 5", ", ".join(f"{c.what} {c.printed}" for c in checks), checks,
        f"{sum(c.holds for c in checks)} of {len(checks)} figures of the comparison with a published recipe follow.",
        "a step of AdamW shrinks the weights by lr x wd", "a figure is misprinted",
    )  # fmt: skip


def recipes(paper: Reported) -> Finding:
    """`audit/recipes`: is the claimed ratio close to that of published recipes, as section 5 begins?"""
    need(paper.recipes, "published recipes")
    checks, ratios = [], {}
    for recipe in paper.recipes:
        ratio = recipe.weight_decay / recipe.lr
        ratios[recipe.name] = ratio / paper.rho
        near = abs(math.log(ratio / paper.rho)) <= math.log(CLOSE)
        checks.append(
            Check(f"{recipe.name}, wd / lr", f"close to {paper.rho:g}", f"{ratio:g}", near, recipe.source, True)
        )
    each = ", ".join(f"{name} {factor:,.0f} times" for name, factor in ratios.items())
    return from_checks(
        "audit/recipes", "section 5", f"{paper.rho:g} is close to what published recipes use", checks,
        f"Published recipes have ratios of weight decay to learning rate far from {paper.rho:g}: {each} it."
        if not all(c.holds for c in checks) else f"Published recipes have ratios close to {paper.rho:g}: {each} it.",
        f"AdamW recipes in the same convention; close is within a factor {CLOSE:g}",
        "the recipes meant are others, and named",
    )  # fmt: skip
