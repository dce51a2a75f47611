"""The ratio of best weight decay to learning rate: of one cell, pooled over cells, and between architectures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import msgspec

from replicate.estimate import combine, details, fits, power_law
from replicate.estimate.estimate import Estimate, unknown
from replicate.estimate.flags import Flag, forbidding
from replicate.estimate.line_fit import MIN_INFORMATIVE
from replicate.judging.select import Selected, only
from replicate.landscape.landscape import Landscape

LEVEL = 0.95
CELLS = 10
"""Number of cells over which a rejection of the paper's ratio, 0.10, has to hold simultaneously."""


EQUAL = "scores with more digits, or another metric in which the runs differ"
"""What would settle a claim whose runs all have the same score."""


def too_few(quantity: str, landscape: Landscape, level: float = LEVEL) -> Estimate:
    """An estimate of `quantity` without value, as no learning rate has enough runs or all scores are the same."""
    if any(cut.equal for cut in landscape.slices()):
        return unknown(quantity, "", level, power_law.PROFILE, (Flag.EQUAL,), EQUAL)
    settle = "at least three weight decays at a learning rate"
    return unknown(quantity, "", level, power_law.PROFILE, (Flag.TOO_FEW_POINTS,), settle)


def of_cell(quantity: str, landscape: Landscape, level: float = LEVEL) -> Estimate:
    """The ratio best weight decay / learning rate of one cell, as an estimate named `quantity`."""
    fit = fits.line(landscape)
    return too_few(quantity, landscape, level) if fit is None else power_law.ratio(fit, level, quantity)


def rejects(selected: Selected, level: float) -> Estimate:
    """The ratio of one cell; its details also have an interval that holds for all cells simultaneously (Bonferroni)."""
    landscape = only(selected)
    found, fit = of_cell("rho_rejects", landscape, level), fits.line(landscape)
    if fit is None or not isinstance(found.details, details.Ratio):
        return found
    family = power_law.ratio(fit, 1 - (1 - level) / CELLS)
    ends = details.Interval(low=family.low, high=family.high)
    return replace(found, details=msgspec.structs.replace(found.details, family=ends))


def _log_span(landscape: Landscape, level: float) -> combine.Span:
    """ln(ratio) of one cell with its interval, which is infinite if the ratio is unknown."""
    fit = fits.line(landscape)
    if fit is None or sum(fit.informative) < MIN_INFORMATIVE:
        return combine.Span(0.0, -math.inf, math.inf)
    value, low, high = power_law.log_ratio(fit, level)
    return combine.Span(0.0 if value is None else value, low, high)


def _ratios(landscapes: Iterable[Landscape]) -> list[Estimate]:
    """Each cell's ratio; cells without one are left out."""
    return [power_law.ratio(fit) for fit in map(fits.line, landscapes) if fit is not None]


def _flags(ratios: Iterable[Estimate], *, known: bool) -> tuple[Flag, ...]:
    """Flags of a number made from `ratios`: those that rule out `replicated`, and `open-cells` if it is not `known`."""
    kept = forbidding(flag for ratio in ratios for flag in ratio.flags)
    return kept if known else (Flag.OPEN_CELLS, *kept)


def pooled(selected: Selected, level: float) -> Estimate:
    """Geometric mean of the cells' ratios (best weight decay / learning rate)."""
    spans = [_log_span(one.landscape, level) for one in selected]
    ratios = {one.cell.id: power_law.ratio(fit) for one in selected if (fit := fits.line(one.landscape)) is not None}
    # The position of an asymmetric peak has the same bias in every cell, so errors do not average out.
    mean = combine.mean_in_step(spans)
    closed = {
        one.cell.id: math.exp(s.value) for one, s in zip(selected, spans, strict=True) if math.isfinite(s.high - s.low)
    }
    open_cells = [one.cell.id for one in selected if one.cell.id not in closed]
    # Rows without intervals: a cell's own intervals do not hold for all cells simultaneously, as would be needed.
    own = tuple(
        msgspec.structs.replace(row, low=None, high=None, cell=cell)
        for cell, ratio in ratios.items()
        if isinstance(ratio.details, details.Ratio)
        for row in ratio.details.ratios_together
        if row.value is not None
    )
    settle = f"a ratio bounded on both sides in {', '.join(open_cells)}" if open_cells else "more seeds"
    flags = _flags(ratios.values(), known=not open_cells)
    method = "geometric mean over cells, of their intervals"
    found = details.PooledRatio(ratios=closed, ratios_together=own)
    return _exponential("rho_pooled", "", mean, level, len(selected), method, flags, settle, found)


def _exponential(
    quantity: str,
    unit: str,
    span: combine.Span,
    level: float,
    n: int,
    method: str,
    flags: tuple[Flag, ...],
    settle: str,
    found: details.AnyDetails | None = None,
) -> Estimate:
    """The estimate whose logarithm is `span`; it has no value if an end of `span` is infinite."""
    high = math.exp(span.high) if span.high < 700 else math.inf
    value = math.exp(span.value) if math.isfinite(span.low) and math.isfinite(span.high) else None
    return Estimate(quantity, unit, value, math.exp(span.low), high, level, n, method, flags, settle, found)


def largest_between(selected: Selected, level: float) -> Estimate:
    """Largest factor between two architectures' ratios (best wd / lr), each averaged over its data sets."""
    archs = tuple(dict.fromkeys(one.cell.arch for one in selected))
    method = "largest pairwise ratio, recovered variances, Bonferroni below"
    if len(archs) < 2:
        return unknown("max_ratio", "times", level, method, (Flag.ONE_ARCHITECTURE,), "a second architecture")
    pairs = len(archs) * (len(archs) - 1) / 2

    def spans(at: float) -> list[combine.Span]:
        return [
            combine.mean([_log_span(one.landscape, at) for one in selected if one.cell.arch == arch]) for arch in archs
        ]

    plain = spans(level)
    known = {a: math.exp(s.value) for a, s in zip(archs, plain, strict=True) if math.isfinite(s.high - s.low)}
    largest = combine.largest_distance(plain, spans(1 - (1 - level) / pairs))
    unknown_archs = [a for a in archs if a not in known]
    flags = _flags(_ratios(one.landscape for one in selected), known=not unknown_archs)
    settle = f"a ratio bounded on both sides for {', '.join(unknown_archs)}" if unknown_archs else "more seeds"
    found = details.RatioByArchitecture(ratios=known)
    made = _exponential("max_ratio", "times", largest, level, len(selected), method, flags, settle, found)
    return replace(made, value=None if unknown_archs else math.exp(largest.value))


def sgd_over_adamw(selected: Selected, level: float) -> Estimate:
    """SGD's ratio (best wd / lr) divided by AdamW's, as a geometric mean over the cells that have runs of both."""
    method = "ratio of ratios, recovered variances"
    of = {(one.cell, one.variant): one.landscape for one in selected}
    both = [(of[cell, "sgd"], of[cell, "main"]) for cell, variant in of if variant == "sgd" and (cell, "main") in of]
    if not both:
        return unknown("sgd_ratio", "", level, method, (Flag.NO_PAIRS,), "SGD and AdamW runs of one cell")
    mean = combine.mean([combine.difference(*(_log_span(one, level) for one in pair)) for pair in both])
    known = math.isfinite(mean.low) and math.isfinite(mean.high)
    flags = _flags(_ratios(one for pair in both for one in pair), known=known)
    settle = "" if known else "a ratio bounded on both sides with both optimisers"
    return _exponential("sgd_ratio", "", mean, level, len(both), method, flags, settle)
