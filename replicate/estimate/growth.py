"""How the drop, the accuracy lost at kappa times the claimed weight decay, grows beyond a zone without loss.

drop = beta * (abs(ln kappa) - gamma) ** p beyond the zone's edge gamma, 0 inside: the paper's formula (section 4.2)
with a free exponent p. Each side of kappa = 1 has three drops, at factors 2, 5 and 10: those at 5 and 10, beyond the
zone, give p once gamma is known; the drop at 2, where the paper puts the zone's edge, gives gamma. If the drop at 2
exceeds that of a power law through 5 and 10, there is no zone: gamma = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from replicate.estimate.details import Growth, GrowthSide, Value
from replicate.estimate.deviation import Drops, cells_interval, measured
from replicate.estimate.estimate import Estimate, finite, unknown
from replicate.estimate.flags import Flag
from replicate.landscape.landscape import Floats

METHOD = "exponent past the zone's edge, delta method over seeds, at either end of the edge's interval"
EDGE, NEAR, FAR = (math.log(factor) for factor in (2, 5, 10))
SIDES = ((2.0, 5.0, 10.0), (0.5, 0.2, 0.1))
DIFFER = 0.5
"""If exponents of two sides differ by more than this, half the width of the claim's margin, their mean describes
neither."""
_GAMMAS = np.linspace(0.0, EDGE, 2001)


def _step(gamma: float) -> float:
    """ln of how many times farther, in ln kappa, factor 10 lies from the zone's edge `gamma` than factor 5 does."""
    return math.log((FAR - gamma) / (NEAR - gamma))


def zone_edge(at_edge: float, near: float, far: float) -> float:
    """The zone's edge gamma, in [0, ln 2], from one side's drops at factors 2, 5 and 10; the last two must be above 0.

    A power law in (ln factor - gamma) passes through the drops at 5 and 10. The result is the smallest gamma for which
    this law is, at factor 2, no larger than the measured drop.
    """
    exponent = math.log(far / near) / np.log((FAR - _GAMMAS) / (NEAR - _GAMMAS))
    excess = ((EDGE - _GAMMAS) / (NEAR - _GAMMAS)) ** np.maximum(exponent, 0.0) - at_edge / near
    first = int(np.argmax(excess <= 0)) if (excess <= 0).any() else len(excess) - 1
    if first == 0 or excess[first] > 0:
        return float(_GAMMAS[first])
    return float(np.interp(0.0, -excess[first - 1 : first + 1], _GAMMAS[first - 1 : first + 1]))


def squared_form(near: float, far: float) -> tuple[float, float]:
    """gamma and beta (pp) of drop = beta * (abs(ln kappa) - gamma) ** 2 through the drops at factors 5 and 10.

    A gamma below 0 means that the drops grow more slowly than abs(ln kappa) ** 2.

    >>> gamma, beta = squared_form(near=1.0, far=2.0)
    >>> round(gamma, 3), round(beta * (math.log(10) - gamma) ** 2, 3)
    (-0.064, 2.0)
    """
    root = (math.sqrt(far) - math.sqrt(near)) / (FAR - NEAR)
    return (NEAR - math.sqrt(near) / root if root > 0 else -math.inf), root**2


def exponent(by_dataset: Mapping[str, Drops], level: float = 0.95) -> Estimate:
    """Exponent p of the growth beyond the zone, averaged over the sides of kappa = 1 and over data sets.

    The interval goes from the exponent at the upper end of gamma's interval to that at its lower end, widened by the
    errors of the drops at 5 and 10 (delta method over seeds). Gamma's interval follows from that of the drop at 2,
    simultaneous over all sides: as gamma cannot be negative, its errors are one-sided and do not average out.

    Args:
        by_dataset: Data set → its drops, kappa → one [S] array per cell, percentage points by seed.
        level: Level of the interval, 0 to 1.

    Returns:
        Flagged `sides-differ` if the exponents of two sides differ significantly by more than `DIFFER`, and `zone-off`
        if the drop at a factor 2 is significantly above that at a factor 5, or so far below 0 that accuracy gains more
        than a quarter of the drop at 5. Not bounded if runs are missing (`no-pairs`) or the drops at 5 and 10 cannot be
        told from 0 (`no-drop`, `one-seed`).
    """
    values: list[float] = []
    ends: list[tuple[float, float]] = []
    """The exponent of each side at the upper and at the lower end of gamma's interval."""
    half = 0.0
    n = 0
    rows: list[GrowthSide] = []
    sides = 2 * len(by_dataset)
    of_sides: list[tuple[float, float]] = []
    """The interval of each side's own exponent, simultaneous over all sides."""
    flags: dict[Flag, None] = {}
    for dataset, given in by_dataset.items():
        drops = _of_whole_cells(given)
        influence: list[Floats] = []
        for edge_at, near_at, far_at in SIDES:
            if not all(measured(drops.get(kappa, ())) for kappa in (edge_at, near_at, far_at)):
                return unknown("growth_exponent", "", level, METHOD, (Flag.NO_PAIRS,), "runs at kappa .1 .2 .5 2 5 10")
            near, far = (cells_interval(drops[kappa], level) for kappa in (near_at, far_at))
            edge = cells_interval(drops[edge_at], 1 - (1 - level) / sides)
            if near[1] <= 0 or far[1] <= 0:
                why = Flag.ONE_SEED if math.isinf(near[1]) else Flag.NO_DROP
                settle = f"drops at kappa {near_at:g} and {far_at:g} that differ from 0 on {dataset}"
                return unknown("growth_exponent", "", level, METHOD, (why,), settle)
            ratio = math.log(far[0] / near[0])
            # gamma is monotonic in the drop at 2, and the exponent in gamma, so ends of intervals map onto ends.
            gamma, gamma_high, gamma_low = (zone_edge(e, near[0], far[0]) for e in edge[:3])
            p = ratio / _step(gamma)
            ends.append((min(ratio / _step(gamma_high), p), max(ratio / _step(gamma_low), p)))
            values.append(p)
            own = [
                (f / far[0] - v / near[0]) / _step(gamma) for v, f in zip(drops[near_at], drops[far_at], strict=True)
            ]
            middle, lowest, _, _ = cells_interval(own, 1 - (1 - level) / sides)
            of_sides.append((ends[-1][0] - (middle - lowest), ends[-1][1] + (middle - lowest)))
            if edge[1] > near[2] or edge[2] < -near[0] / 4:
                flags[Flag.ZONE_OFF] = None
            influence = _sum(influence, own)
            squared = _squared(drops[near_at], drops[far_at], level)
            rows.append(
                GrowthSide(
                    dataset=dataset,
                    near=near_at,
                    far=far_at,
                    exponent=p,
                    gamma=gamma,
                    gamma_interval=(gamma_low, gamma_high),
                    squared_gamma=squared[0],
                    squared_beta_pp=squared[1],
                )
            )
        mean, low, _, count = cells_interval(influence, level)
        half = math.hypot(half, (mean - low) / sides)
        n += count
    low, high = np.mean(ends, axis=0)
    value = float(np.mean(values))
    if max(least for least, _ in of_sides) - min(most for _, most in of_sides) > DIFFER:
        flags[Flag.SIDES_DIFFER] = None
    low, high = float(low) - half, float(high) + half
    found = Growth(sides=tuple(rows))
    return Estimate("growth_exponent", "", value, low, high, level, n, METHOD, tuple(flags), "more seeds", found)


def _of_whole_cells(drops: Drops) -> Drops:
    """The drops of cells that have all kappas: means over different cells would not be comparable between kappas."""
    wanted = [kappa for side in SIDES for kappa in side]
    if not all(kappa in drops for kappa in wanted):
        return drops
    cells = zip(*(drops[kappa] for kappa in wanted), strict=True)
    whole = [i for i, cell in enumerate(cells) if all(np.isfinite(values).any() for values in cell)]
    return {kappa: [drops[kappa][i] for i in whole] for kappa in wanted}


def _sum(total: list[Floats], parts: list[Floats]) -> list[Floats]:
    """Adds each seed's contributions to the errors of a data set's two sides, as both use the runs at kappa = 1."""
    return [a + b for a, b in zip(total, parts, strict=True)] if total else parts


def _squared(near: Sequence[Floats], far: Sequence[Floats], level: float) -> tuple[Value, Value]:
    """`squared_form` fitted to the drops on one side of kappa = 1: gamma and beta (pp), with delta-method intervals."""
    at = np.array([cells_interval(near, level)[0], cells_interval(far, level)[0]])

    def with_interval(form: Callable[[Floats], float]) -> Value:
        value = form(at)
        gradient = [(form(at + h) - form(at - h)) / (2e-4 * at[i]) for i, h in enumerate(np.diag(1e-4 * at))]
        if not np.isfinite([value, *gradient]).all():
            return Value(value=finite(value), low=-math.inf, high=math.inf)
        influence = [gradient[0] * (v - at[0]) + gradient[1] * (f - at[1]) for v, f in zip(near, far, strict=True)]
        _, low, high, _ = cells_interval(influence, level)
        return Value(value=value, low=value + low, high=value + high)

    return with_interval(lambda drops: squared_form(*drops)[0]), with_interval(lambda drops: squared_form(*drops)[1])
