"""What abstract and text say of accuracy drops (range, tolerance zone, growth, asymmetry) against the drops' table."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

from replicate.audit.finding import Check, Finding, from_checks, holding, span
from replicate.audit.reported import DropRow, Floats, Printed, Reported, need

GROWTH = (1.5, 2.5)
"""A drop that grows as a power of abs(ln kappa) counts as quadratic if its exponent lies in this range."""
LEVEL = 0.01
"""Significance level of the test of the fitted curve; it is divided by the number of data sets (Bonferroni)."""


def _zone(paper: Reported) -> tuple[float, float]:
    """Smallest and largest kappa (multiple of the claimed weight decay) of the tolerance zone; by default [0.5, 2]."""
    if not paper.states("deviation/zone"):
        return 0.5, 2.0
    low, high = paper.figure("deviation/zone").measured.interval
    return low.value, high.value


def _split(paper: Reported) -> tuple[list[DropRow], list[DropRow]]:
    """Drops inside the tolerance zone (its edges included) and beyond it."""
    need(paper.drops, "a table of accuracy drops")
    low, high = _zone(paper)
    inside = [row for row in paper.drops if low <= row.kappa <= high and row.kappa != 1]
    beyond = [row for row in paper.drops if not low <= row.kappa <= high]
    need(beyond, "drops beyond the tolerance zone")
    return inside, beyond


def _ends(rows: list[DropRow]) -> tuple[Printed, Printed]:
    drops = [r.drop.value for r in rows]
    return min(drops, key=lambda drop: drop.value), max(drops, key=lambda drop: drop.value)


def deviation_range(paper: Reported) -> Finding:
    """`audit/deviation-range`: the range of drops in the abstract compared with the rows that it summarises."""
    figure = paper.figure("deviation/factor-2")
    low, high = figure.measured.interval
    inside, beyond = _split(paper)
    smallest, largest = _ends(beyond)
    checks = []
    for name, printed, found in (("smallest", low, smallest), ("largest", high, largest)):
        what, fits = f"{name} drop beyond a factor 2", printed.meets(found.low, found.high)
        checks.append(Check(what, printed.text, found.text, holds=fits, source=figure.source))
    evidence = (
        f"Beyond a factor 2 the table's drops run from {smallest.text} to {largest.text} pp; "
        f"the abstract says {low.text} to {high.text}"
    )
    if inside:
        evidence += f" (at a factor 2 exactly: {' to '.join(drop.text for drop in _ends(inside))})"
    return from_checks(
        checks,
        claimed=f"{low.text} to {high.text} pp beyond a factor 2",
        evidence=evidence + ".",
        assumes="the range is that of the table's rows beyond a factor 2",
        consistent_if="the lower end is the largest drop inside the zone, taken as a bound for all beyond it",
    )


def tolerance_zone(paper: Reported) -> Finding:
    """`audit/tolerance-zone`: the stated bounds on drops inside and beyond the zone, and the drop at a factor 2."""
    inside, beyond = _split(paper)
    checks = []
    note = ""
    for name, side, rows in (("zone-drop", "below", inside), ("beyond-zone-drop", "above", beyond)):
        if not paper.states(f"deviation/{name}"):
            continue
        bound = paper.figure(f"deviation/{name}")
        for r in rows:
            drop, limit, printed = r.drop.value, bound.value.value, f"{side} {bound.value.text}"
            fits = drop.low < limit if side == "below" else drop.high > limit
            checks.append(Check(r.name, printed, drop.text, holds=fits, source=bound.source, decides=True))
            if side == "below" and drop.value >= limit:
                note += f"; {r.name} is printed as the bound itself"
    if paper.states("deviation/factor-2/script") and inside:
        about = paper.figure("deviation/factor-2/script")
        mean = float(np.mean([r.drop.value.value for r in inside]))
        printed, fits = f"about {about.value.text}", about.value.meets(mean - 0.05, mean + 0.05)
        checks.append(Check("mean drop at a factor 2", printed, f"{mean:.2g}", holds=fits, source=about.source))
    need(checks, "bounds on the drops inside and beyond a tolerance zone")
    return from_checks(
        checks,
        source="section 4.2, published script",
        claimed="bounds on the drops inside and beyond the zone",
        evidence=f"The table agrees with {holding(checks)} statements about drops inside and beyond the tolerance "
        f"zone{note}.",
        assumes="a bound is exact and a drop may be anything that rounds to the printed one; the drops' intervals are "
        "ignored",
        consistent_if="a bound or a drop is misprinted",
    )


def _arrays(rows: list[DropRow]) -> tuple[Floats, Floats, Floats]:
    """abs(ln kappa), drops and standard errors (half width over 1.96)."""
    x = np.array([abs(math.log(row.kappa)) for row in rows])
    y = np.array([row.drop.value.value for row in rows])
    error = np.array([sum(row.drop.half_width) / 2 for row in rows]) / stats.norm.ppf(0.975)
    return x, y, error


def quadratic_misfit(rows: list[DropRow]) -> tuple[float, tuple[float, float], float]:
    """Least-squares fit of drop = beta * (abs(ln kappa) - gamma)^2 beyond gamma, 0 inside.

    Returns chi square, beta (pp) for kappa below and above 1, and gamma. The paper's curve has one beta; two are
    fitted because the paper calls the drops asymmetric.
    """
    sides = [_arrays([r for r in rows if (r.kappa > 1) == above]) for above in (False, True)]

    def fit(gamma: float) -> tuple[float, tuple[float, float]]:
        chi2, betas = 0.0, []
        for x, y, error in sides:
            shape, scaled = np.maximum(x - gamma, 0.0) ** 2 / error, y / error
            betas.append(max(float(shape @ scaled) / float(shape @ shape), 0.0) if shape.any() else 0.0)
            chi2 += float(((scaled - betas[-1] * shape) ** 2).sum())
        return chi2, (betas[0], betas[1])

    farthest = max(abs(math.log(r.kappa)) for r in rows)
    gammas = np.linspace(0, 0.99 * farthest, 400)
    k = int(np.argmin([fit(float(g))[0] for g in gammas]))
    ends = gammas[max(k - 1, 0)], gammas[min(k + 1, len(gammas) - 1)]
    gamma = float(optimize.minimize_scalar(lambda g: fit(float(g))[0], bounds=ends, method="bounded").x)
    gamma = min((gamma, float(gammas[k])), key=lambda g: fit(g)[0])
    chi2, betas = fit(gamma)
    return chi2, betas, gamma


def growth_exponents(rows: list[DropRow]) -> list[tuple[str, float, float]]:
    """Below and above kappa 1: name, exponent of abs(ln kappa) between the two outermost kappas, its standard error."""
    out = []
    for side in ("below", "above"):
        outer = (r for r in rows if r.kappa != 1 and (r.kappa > 1) == (side == "above"))
        pair = sorted(outer, key=lambda r: abs(math.log(r.kappa)))[-2:]
        if len(pair) < 2 or min(r.drop.value.value for r in pair) <= 0:
            continue
        x, y, error = _arrays(pair)
        step = math.log(x[1] / x[0])
        relative = math.hypot(*(error / y))
        out.append((f"{rows[0].dataset}, {side} 1", math.log(y[1] / y[0]) / step, relative / step))
    return out


def growth(paper: Reported) -> Finding:
    """`audit/deviation-growth`: do the table's drops fit the paper's curve and grow as about (ln kappa)^2?"""
    need(paper.drops, "a table of accuracy drops")
    checks, exponents, fits = [], [], {}
    datasets = list(dict.fromkeys(row.dataset for row in paper.drops))
    for dataset in datasets:
        rows = [row for row in paper.drops if row.dataset == dataset and row.kappa != 1]
        enough = len(rows) > 2 and all(row.drop.has_interval for row in rows)
        need(enough, "drops with intervals at more than two kappas")
        chi2, beta, gamma = quadratic_misfit(rows)
        dof = len(rows) - 3
        p = float(stats.chi2.sf(chi2, dof))
        fits[dataset] = {"chi square": chi2, "p": p, "beta": beta, "gamma": gamma}
        what, fit = f"{dataset}: drop = beta (abs(ln kappa) - gamma)^2", f"a fit of {len(rows)} rows"
        found, likely = f"chi square {chi2:.1f} on {dof}, p = {p:.2g}", p >= LEVEL / len(datasets)
        checks.append(Check(what, fit, found, holds=likely, source="section 3.3", decides=True))
        exponents += growth_exponents(rows)
    evidence = "The best fit of the paper's curve has " + ", ".join(
        f"p = {f['p']:.2g} on {d} (chi square {f['chi square']:.1f})" for d, f in fits.items()
    )
    details: dict[str, object] = {"fits": fits}
    if exponents:
        weights = np.array([e[2] for e in exponents]) ** -2.0
        mean = float(np.average([e[1] for e in exponents], weights=weights))
        half = float(stats.norm.ppf(0.975) / math.sqrt(weights.sum()))
        details["exponents"] = {name: [value, error] for name, value, error in exponents}
        details["exponent"] = [mean, mean - half, mean + half]
        what, found = "exponent between the outermost kappas", f"{mean:.2f} {span(mean - half, mean + half)}"
        # A tolerance zone makes the outer growth steeper than quadratic, so only too small an exponent contradicts it.
        steep = mean + half >= GROWTH[0]
        checks.append(Check(what, "about 2", found, holds=steep, source="section 4.2", decides=True))
        evidence += (
            f"; between the two outermost kappas of each side the drop grows as (ln kappa)^{mean:.2f}, 95 % interval "
            f"{span(mean - half, mean + half)}"
        )
    return from_checks(
        checks,
        source="sections 3.3 and 4.2",
        claimed="growth as about (ln kappa)^2 beyond a tolerance zone",
        evidence=evidence + ".",
        assumes="independent normal errors, with the interval's half width over 1.96 as standard error (the reference "
        "that all drops share makes their ratios more certain, not less); gamma and one beta per side are fitted to "
        "each data set",
        consistent_if="the statement is about kappas beyond those of the table",
        details=details,
    )


def asymmetry(paper: Reported) -> Finding:
    """`audit/asymmetry`: whether too much weight decay costs more than too little, where the paper says so."""
    need(paper.drops, "a table of accuracy drops")
    sources = {f.name.partition("/")[2]: f.source for f in paper.figures if f.name.startswith("asymmetry/")}
    claimed = list(sources)
    need(claimed, "a data set on which too much weight decay is said to cost more, as a figure asymmetry/<dataset>")
    checks, means, rows_of = [], {}, {}
    for dataset in dict.fromkeys(row.dataset for row in paper.drops):
        rows = paper.drops_on(dataset)
        pairs = [(k, 1 / k) for k in sorted(rows) if k > 1 and any(math.isclose(1 / k, other) for other in rows)]
        differences = {}
        for kappa, inverse in pairs:
            above = rows[kappa].drop.value
            below = next(row.drop.value for k, row in rows.items() if math.isclose(k, inverse))
            difference, slack = above.value - below.value, above.half + below.half
            differences[kappa] = difference
            if dataset in claimed:
                what, source = f"{dataset}, kappa {kappa:g} less 1/{kappa:g}", sources[dataset]
                more = difference + slack > 0
                checks.append(Check(what, "above 0", f"{difference:+.2g}", holds=more, source=source))
        need(differences, f"drops at some kappa and at 1 / kappa on {dataset}")
        means[dataset], rows_of[dataset] = float(np.mean(list(differences.values()))), differences
    shown = {name: f"{round(mean, 2) + 0.0:+.2f}" for name, mean in means.items()}
    for dataset, source in sources.items():
        mean, text = means[dataset], f"{means[dataset]:+.2f}"
        checks.append(Check(f"{dataset}, mean", "above 0", text, holds=mean > 0, source=source, decides=True))
        for other in (name for name in means if name not in claimed):
            what, found, less = f"{other} against {dataset}", f"{shown[other]} against {text}", means[other] < mean
            checks.append(Check(what, "weaker", found, holds=less, source=source, decides=True))
    each = "; ".join(
        f"{d}: {', '.join(f'{v:+.1f} at {k:g}' for k, v in differences.items())}, mean {shown[d]}"
        for d, differences in rows_of.items()
    )
    return from_checks(
        checks,
        source="section 4.2",
        claimed=f"too much weight decay costs more on {', '.join(claimed)}, less so elsewhere",
        evidence=f"Drop at kappa minus drop at 1/kappa, pp: {each}.",
        assumes="the printed drops and their rounding; the drops' intervals, wider than these differences, are ignored",
        consistent_if="the statement is about the mean over kappas, or about factors up to 5",
        details={"differences": rows_of, "means": means},
    )
