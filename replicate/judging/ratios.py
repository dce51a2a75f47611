"""From landscapes to the ratio of weight decay to learning rate: of one cell, over cells, between architectures."""

from __future__ import annotations

import math
from collections.abc import Iterable

from replicate.estimate import combine, fits, power_law
from replicate.estimate.line_fit import MIN_INFORMATIVE
from replicate.estimate.result import Estimate, unknown
from replicate.judging.select import Landscapes, of_cells, only
from replicate.judging.verdict import FORBIDS_REPLICATION
from replicate.landscape.landscape import Landscape
from replicate.paper.claim import Claim

LEVEL = 0.95


def too_few(quantity: str) -> Estimate:
    """The estimate of `quantity` where no learning rate has runs enough to say anything."""
    return unknown(
        quantity, "", LEVEL, "profile likelihood over set-valued optima", ("too-few-points",),
        "three weight decays at a learning rate, at least",
    )  # fmt: skip


def of_cell(claim: Claim, landscapes: Landscapes, level: float = LEVEL) -> Estimate:
    fit = fits.line(only(claim, landscapes))
    return too_few(claim.quantity) if fit is None else power_law.ratio(fit, level, claim.quantity)


def _log_span(landscape: Landscape, level: float) -> combine.Span:
    """ln(ratio) of one cell; the whole line where it is not known."""
    fit = fits.line(landscape)
    if fit is None or sum(fit.informative) < MIN_INFORMATIVE:
        return combine.Span(0.0, -math.inf, math.inf)
    value, low, high = power_law.log_ratio(fit, level)
    return combine.Span(0.0 if value is None else value, low, high)


def _ratios(landscapes: Iterable[Landscape]) -> list[Estimate]:
    """Each cell's ratio; those without any are left out."""
    return [power_law.ratio(fit) for fit in map(fits.line, landscapes) if fit is not None]


def _forbidding(ratios: Iterable[Estimate]) -> tuple[str, ...]:
    """What keeps some cell's ratio from replicating keeps a number pooled from it from doing so."""
    found = {flag for ratio in ratios for flag in ratio.flags}
    return tuple(flag for flag in FORBIDS_REPLICATION if flag in found)


def pooled(claim: Claim, landscapes: Landscapes) -> Estimate:
    cells = of_cells(claim, landscapes)
    spans = [_log_span(landscape, LEVEL) for _, landscape in cells]
    ratios = {cell.id: power_law.ratio(fit) for cell, landscape in cells if (fit := fits.line(landscape)) is not None}
    # The peak of a lopsided curve is placed wrongly in the same direction in every cell, whatever the noise.
    pooled = combine.mean_in_step(spans)
    known = math.isfinite(pooled.low) and math.isfinite(pooled.high)
    open_cells = [c.id for (c, _), s in zip(cells, spans, strict=True) if not math.isfinite(s.high - s.low)]
    # Their intervals stand with their cells: here they would have to hold over all of these.
    own = [
        {"cell": cell, "lr": row["lr"], "value": row["value"], "low": None, "high": None, "likely": row["likely"]}
        for cell, ratio in ratios.items()
        for row in ratio.details["ratios_together"]
    ]
    return Estimate(
        "rho_pooled", "", math.exp(pooled.value) if known else None, math.exp(pooled.low), _exp(pooled.high), LEVEL,
        len(cells), "geometric mean over cells, of their intervals",
        (*(("open-cells",) if open_cells else ()), *_forbidding(ratios.values())),
        f"a closed ratio in {', '.join(open_cells)}" if open_cells else "more seeds",
        {
            "ratios": {
                c.id: math.exp(s.value) for (c, _), s in zip(cells, spans, strict=True) if c.id not in open_cells
            },
            "ratios_together": own,
        },
    )  # fmt: skip


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def largest_between(claim: Claim, landscapes: Landscapes) -> Estimate:
    """Largest ratio between two architectures' ratios, each averaged over its data sets."""
    cells = of_cells(claim, landscapes)
    archs = tuple(dict.fromkeys(c.arch for c, _ in cells))
    method = "largest pairwise ratio, recovered variances, Bonferroni below"
    if len(archs) < 2:
        return unknown("max_ratio", "times", LEVEL, method, ("one-architecture",), "a second architecture")
    pairs = len(archs) * (len(archs) - 1) / 2

    def spans(level: float) -> list[combine.Span]:
        return [
            combine.mean([_log_span(landscape, level) for c, landscape in cells if c.arch == arch]) for arch in archs
        ]

    plain = spans(LEVEL)
    known = [a for a, s in zip(archs, plain, strict=True) if math.isfinite(s.high - s.low)]
    largest = combine.largest_distance(plain, spans(1 - (1 - LEVEL) / pairs))
    unknown_archs = [a for a in archs if a not in known]
    return Estimate(
        "max_ratio", "times", math.exp(largest.value) if not unknown_archs else None, math.exp(largest.low),
        _exp(largest.high), LEVEL, len(cells), method,
        (*(("open-cells",) if unknown_archs else ()), *_forbidding(_ratios(landscape for _, landscape in cells))),
        f"a closed ratio for {', '.join(unknown_archs)}" if unknown_archs else "more seeds",
        {"ratios": {a: math.exp(s.value) for a, s in zip(archs, plain, strict=True) if a in known}},
    )  # fmt: skip


def sgd_over_adamw(claim: Claim, landscapes: Landscapes) -> Estimate:
    """SGD's ratio over AdamW's, geometric mean over the cells that have both."""
    method = "ratio of ratios, recovered variances"
    spans = []
    ratios = []
    for cell in claim.cells:
        if (cell, "sgd") in landscapes and (cell, "main") in landscapes:
            both = [landscapes[cell, variant] for variant in ("sgd", "main")]
            ratios += _ratios(both)
            sgd, adamw = (_log_span(landscape, LEVEL) for landscape in both)
            spans.append(combine.difference(sgd, adamw))
    if not spans:
        return unknown("sgd_ratio", "", LEVEL, method, ("no-pairs",), "SGD and AdamW runs of one cell")
    pooled = combine.mean(spans)
    known = math.isfinite(pooled.low) and math.isfinite(pooled.high)
    return Estimate(
        "sgd_ratio", "", math.exp(pooled.value) if known else None, math.exp(pooled.low), _exp(pooled.high), LEVEL,
        len(spans), method, (*(() if known else ("open-cells",)), *_forbidding(ratios)),
        "" if known else "a closed ratio with both optimisers",
    )  # fmt: skip
