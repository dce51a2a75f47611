"""The paper's tests: p-values compared with estimates and intervals, and the analysis of variance recomputed."""

from __future__ import annotations

import numpy as np
from scipy import stats

from replicate.audit.finding import Check, Finding, from_checks, holding, span
from replicate.audit.reported import DropRow, Printed, RatioRow, Reported, need

ALPHA = 0.05
REFERENCES: tuple[float, ...] = (np.inf, 4, 20)
"""Degrees of freedom tried: infinite (normal); 4 (5 seeds - 1, or 6 learning rates - 2); 20 (the methods section)."""


def reference_name(dof: float) -> str:
    return "normal" if np.isinf(dof) else f"t with {dof:g} degrees of freedom"


def p_range(distance: tuple[float, float], half_width: tuple[float, float], dof: float) -> tuple[float, float]:
    """Smallest and largest two-sided p-value of an estimate, t distributed with `dof` (infinite: normal).

    `distance`: smallest and largest distance of the estimate from the hypothesis; `half_width`: smallest and largest
    half width of its 95 % interval, which is the standard error times the 97.5 % point, 1.96 for the normal.
    """
    q = float(stats.t.ppf(0.975, dof))
    low, high = half_width
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.divide(distance[1] * q, low)
        smallest = np.divide(distance[0] * q, high)
    return float(2 * stats.t.sf(largest, dof)), float(2 * stats.t.sf(smallest, dof))


def distance_from(value: Printed, hypothesis: float) -> tuple[float, float]:
    """Smallest and largest distance from the hypothesis of numbers that round to `value`."""
    middle = abs(value.value - hypothesis)
    return max(middle - value.half, 0.0), middle + value.half


def ratio_p(row: RatioRow, rho: float, dof: float) -> tuple[float, float]:
    """Smallest and largest p-value for the ratio `rho` over all numbers that round to the row's figures."""
    return p_range(distance_from(row.rho.value, rho), row.rho.half_width, dof)


def p_value(paper: Reported, row: RatioRow) -> Finding:
    """`audit/p-values/<cell>`: the printed p compared with the p that estimate and interval imply."""
    p = need(row.p, "p-values in the table of ratios")
    ranges = {dof: ratio_p(row, paper.rho, dof) for dof in REFERENCES}
    fitting = [dof for dof, r in ranges.items() if p.meets(*r)]
    everything = min(r[0] for r in ranges.values()), max(r[1] for r in ranges.values())
    flips = everything[0] > ALPHA >= p.value or everything[1] < ALPHA <= p.value
    each = ", ".join(f"{reference_name(dof)} {span(*r)}" for dof, r in ranges.items())
    names = ", ".join(reference_name(dof) for dof in fitting)
    fit = f"agrees (reference: {names})" if fitting else "agrees with none of them"
    return from_checks(
        [Check("p", p.text, each, holds=bool(fitting), source=row.source, decides=flips)],
        claimed=f"{row.rho.text}, p = {p.text}",
        evidence=f"Tested against {paper.rho:g}, {row.rho.text} implies p: {each}; the printed {p.text} {fit}.",
        assumes="an estimate with a normal or t distribution, whose standard error is the half width of its 95 % "
        "interval over that distribution's 97.5 % point",
        consistent_if="the test uses another standard error than the interval",
        details={"intervals": {reference_name(dof): list(r) for dof, r in ranges.items()}},
    )


def _with_p(paper: Reported) -> list[tuple[RatioRow, Printed]]:
    """(row, p-value) for each row of the table of ratios that has one; raises NotStated if none does."""
    rows = [(row, row.p) for row in paper.ratios if row.p is not None]
    need(rows, "p-values in the table of ratios")
    return rows


def one_reference(paper: Reported) -> Finding:
    """`audit/p-reference`: is there one reference distribution with which all p-values agree?"""
    rows = [(row, p) for row, p in _with_p(paper) if row.rho.has_interval]
    need(rows, "p-values in the table of ratios")
    fits = {
        dof: sum(p.meets(*ratio_p(row, paper.rho, dof)) for row, p in rows)
        for dof in (*range(2, 31), 45, 60, 100, np.inf)
    }
    whole = [dof for dof, n in fits.items() if n == len(rows)]
    best = max(fits.values())
    what, number, found = "rows whose p fits under one reference", f"{len(rows)} p-values", f"{best} of {len(rows)}"
    where = f"t distributions with {whole[0]:g} to {whole[-1]:g} degrees of freedom" if whole else ""
    agree = f"All {number} agree with {where}" if whole else f"No reference distribution agrees with all {number}"
    return from_checks(
        [Check(what, number, found, holds=bool(whole))],
        source="section 3.6, table of ratios",
        claimed=f"p-values of {paper.rho:g}",
        evidence=f"{agree}; {fits[np.inf]} of them agree with the normal distribution.",
        assumes="all rows use the same test; t distributions with 2 to 100 degrees of freedom and the normal "
        "distribution are tried",
        consistent_if="the rows were tested in different ways",
        details={"rows that fit by degrees of freedom": {f"{k:g}": v for k, v in fits.items()}},
    )


def none_rejects(paper: Reported) -> Finding:
    """`audit/none-rejects`: no p is below 5 %, and every interval contains the claimed ratio."""
    checks = []
    for row, p in _with_p(paper):
        low, high = row.rho.interval
        inside = low.low <= paper.rho <= high.high
        found, holds = f"interval {'contains' if inside else 'excludes'} {paper.rho:g}", p.value >= ALPHA and inside
        checks.append(Check(row.cell, f"p = {p.text}", found, holds=holds, source=row.source, decides=True))
    return from_checks(
        checks,
        source="section 4.1",
        claimed=f"none of {len(checks)} rejects {paper.rho:g} at 5 %",
        evidence=f"{holding(checks)} rows have p of at least 0.05 and an interval that contains {paper.rho:g}.",
        assumes="a test at 5 % and a 95 % interval are equivalent; a test that does not reject is no evidence for the "
        "hypothesis",
        consistent_if="a row's p or interval is misprinted",
    )


def slopes_hold_one(paper: Reported) -> Finding:
    """`audit/slopes-hold-one`: every interval of a log-log slope contains 1."""
    checks, said = [], "consistent with 1"
    for row in paper.ratios:
        if row.slope is not None and row.slope.has_interval:
            low, high = row.slope.interval
            inside = low.low <= 1 <= high.high
            checks.append(Check(row.cell, said, row.slope.text, holds=inside, source=row.source, decides=True))
    need(checks, "log-log slopes with intervals")
    return from_checks(
        checks,
        source="section 4.1",
        claimed=f"all slopes are {said}",
        evidence=f"{holding(checks)} intervals of the log-log slope contain 1.",
        assumes="only the printed intervals",
        consistent_if="an interval is misprinted",
    )


def drop_ps(row: DropRow, dof: float) -> tuple[float, float]:
    """For no drop: the smallest one-sided and the largest two-sided p-value that the row's rounded numbers allow."""
    low, high = p_range(distance_from(row.drop.value, 0.0), row.drop.half_width, dof)
    return low / 2, high


def drop_p(paper: Reported) -> Finding:
    """`audit/drop-p`: the p-value of no drop compared with drop and interval, for every row and data set."""
    checks = []
    for row, p in ((row, row.p) for row in paper.drops if row.p is not None):
        ranges = [drop_ps(row, dof) for dof in (*REFERENCES, 24)]
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        fits, decides = low <= p.high if row.p_below else p.meets(low, high), low > ALPHA
        printed = f"p {'<' if row.p_below else '='} {p.text}"
        checks.append(Check(row.name, printed, span(low, high), holds=fits, source=row.source, decides=decides))
    need(checks, "p-values in the table of drops")
    return from_checks(
        checks,
        source="table of drops",
        claimed="p-values of no drop",
        evidence=f"{holding(checks)} p-values of the table of drops are compatible with drop and interval.",
        assumes="normal, or t with 4, 20 or 24 degrees of freedom (25 values minus one); one- or two-sided",
        consistent_if="the p-values belong to other intervals",
    )


def anova_p(paper: Reported) -> Finding:
    """`audit/anova-p`: p compared with F and its degrees of freedom."""
    f, p = paper.figure("anova/f"), paper.figure("anova/p").value
    between, within = paper.value("anova/df-between"), paper.value("anova/df-within")
    low, high = (float(stats.f.sf(x, between, within)) for x in (f.value.high, f.value.low))
    found, holds, decides = span(low, high), p.meets(low, high), (low > ALPHA) != (p.value > ALPHA)
    statistic = f"F({between:g}, {within:g}) = {f.value.text}"
    return from_checks(
        [Check("p", p.text, found, holds=holds, source=f.source, decides=decides)],
        claimed=f"{statistic}, p = {p.text}",
        evidence=f"{statistic} has a p in {found}; the paper says {p.text}.",
        assumes="the F distribution with the printed degrees of freedom",
        consistent_if="F, p or a degree of freedom is misprinted",
    )


def anova_df(paper: Reported) -> Finding:
    """`audit/anova-df`: the degrees of freedom stated in results and methods compared with the table's."""
    between, within = paper.value("anova/df-between"), paper.value("anova/df-within")
    groups, estimates = len(paper.architectures), len(paper.ratios)
    table = (groups - 1, estimates - groups)
    checks = [Check("between, from the table", f"{between:g}", f"{table[0]}", holds=between == table[0])]
    results, source = (between, within), "sections 3.6 and 4.1"
    stated = [results]
    if paper.states("anova/df-within/methods"):
        methods = (paper.value("anova/df-between/methods"), paper.value("anova/df-within/methods"))
        stated.append(methods)
        printed, found = (f"({a:g}, {b:g})" for a, b in stated)
        checks.append(Check("results and methods", printed, found, holds=results == methods, source=source))
    possible = [table]  # with one value per cell, or per cell and seed
    if paper.states("count/seeds"):
        possible.append((groups - 1, int(estimates * paper.value("count/seeds")) - groups))
    ways = " or ".join(f"{df[1]}" for df in possible)
    checks.append(Check("within, from the table", f"{within:g}", ways, holds=results in possible))
    f = paper.value("anova/f")
    ps = {f"({a:g}, {b:g})": float(stats.f.sf(f, a, b)) for a, b in dict.fromkeys((*stated, table))}
    each = ", ".join(f"{p:.2f} with {name}" for name, p in ps.items())
    named = " and the methods ".join(f"({a:g}, {b:g})" for a, b in stated)
    verdict = "not significant with any" if min(ps.values()) > ALPHA else "significant with some"
    return from_checks(
        checks,
        source=source,
        claimed=f"({between:g}, {within:g})",
        evidence=f"The results use {named} degrees of freedom, and the table's {estimates} estimates have ({table[0]}, "
        f"{table[1]}); F = {f:g} is {verdict} (p = {each}).",
        assumes="a one-way analysis of variance over architectures, with one value per cell or per cell and seed",
        consistent_if="methods and results describe the same analysis, and say of which values",
        details={"p": ps},
    )
