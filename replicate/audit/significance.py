"""The paper's tests: p-values against estimates and intervals, the analysis of variance against its degrees of
freedom.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from replicate.audit.finding import Check, Finding, from_checks, span
from replicate.audit.reported import DropRow, Printed, RatioRow, Reported, need

ALPHA = 0.05
REFERENCES: tuple[float, ...] = (np.inf, 4, 20)
"""Degrees of freedom tried: normal; 5 seeds or 6 learning rates less 2; those of the methods section."""


def reference_name(dof: float) -> str:
    return "normal" if np.isinf(dof) else f"t with {dof:g} degrees of freedom"


def p_range(distance: tuple[float, float], half_width: tuple[float, float], dof: float) -> tuple[float, float]:
    """Two-sided p-values that an estimate this far from the hypothesis can have, with a 95 % interval this wide.

    The standard error is the half width over the same distribution's 97.5 % point: 1.96 for the normal.
    """
    q = float(stats.t.ppf(0.975, dof))
    low, high = half_width
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.divide(distance[1] * q, low)
        smallest = np.divide(distance[0] * q, high)
    return float(2 * stats.t.sf(largest, dof)), float(2 * stats.t.sf(smallest, dof))


def distance_from(value: Printed, hypothesis: float) -> tuple[float, float]:
    """Smallest and largest distance of what prints like `value` from the hypothesis."""
    middle = abs(value.value - hypothesis)
    return max(middle - value.half, 0.0), middle + value.half


def ratio_p(row: RatioRow, rho: float, dof: float) -> tuple[float, float]:
    """p-values of the claimed ratio that the row's estimate and interval allow."""
    return p_range(distance_from(row.rho.value, rho), row.rho.half_width, dof)


def p_value(paper: Reported, row: RatioRow) -> Finding:
    """`audit/p-values/<cell>`."""
    need(row.p, "p-values in the table of ratios")
    assert row.p is not None
    ranges = {dof: ratio_p(row, paper.rho, dof) for dof in REFERENCES}
    fitting = [dof for dof, r in ranges.items() if row.p.meets(*r)]
    everything = min(r[0] for r in ranges.values()), max(r[1] for r in ranges.values())
    flips = everything[0] > ALPHA >= row.p.value or everything[1] < ALPHA <= row.p.value
    each = ", ".join(f"{reference_name(dof)} {span(*r)}" for dof, r in ranges.items())
    checks = [Check("p", row.p.text, each, bool(fitting), row.source, decides=flips)]
    if fitting:
        fit = f"p = {row.p.text} fits (reference: {', '.join(reference_name(dof) for dof in fitting)})."
    else:
        fit = f"p = {row.p.text} fits none of them."
    evidence = f"{row.rho.text} gives p for {paper.rho:g} of {each}: {fit}"
    return from_checks(
        f"audit/p-values/{row.cell}", row.source, f"{row.rho.text}, p = {row.p.text}", checks, evidence,
        "an estimate with a normal or t distribution, whose standard error is the half width of its 95 % interval over "
        "that distribution's 97.5 % point",
        "the standard error of the test is another one than that of the interval", {"intervals": dict_of(ranges)},
    )  # fmt: skip


def dict_of(ranges: dict[float, tuple[float, float]]) -> dict[str, list[float]]:
    return {reference_name(dof): list(r) for dof, r in ranges.items()}


def one_reference(paper: Reported) -> Finding:
    """`audit/p-reference`: is there one reference distribution under which all p-values fit at once?"""
    rows = [row for row in paper.ratios if row.p is not None and row.rho.has_interval]
    need(rows, "p-values in the table of ratios")
    fits: dict[float, int] = {}
    for dof in (*range(2, 31), 45, 60, 100, np.inf):
        fits[dof] = sum(row.p.meets(*ratio_p(row, paper.rho, dof)) for row in rows if row.p)
    whole = [dof for dof, n in fits.items() if n == len(rows)]
    best = max(fits.values())
    check = Check(
        "rows whose p fits under one reference", f"{len(rows)} p-values", f"{best} of {len(rows)}", bool(whole)
    )
    where = f"with {whole[0]:g} to {whole[-1]:g} degrees of freedom" if whole else "under no reference"
    evidence = (
        f"All {len(rows)} p-values fit {'a t distribution ' if whole else ''}{where}; "
        f"{fits[np.inf]} of them fit the normal one."
    )
    return from_checks(
        "audit/p-reference", "section 3.6, table of ratios", f"p-values of {paper.rho:g}", [check], evidence,
        "one test is used for all rows; degrees of freedom from 2 to 100 are tried, and the normal distribution",
        "the rows were tested in different ways",
        {"rows that fit by degrees of freedom": {f"{k:g}": v for k, v in fits.items()}},
    )  # fmt: skip


def none_rejects(paper: Reported) -> Finding:
    """`audit/none-rejects`: no p below 5 %, and every interval holds the claimed ratio."""
    rows = [row for row in paper.ratios if row.p is not None]
    need(rows, "p-values in the table of ratios")
    checks = []
    for row in rows:
        assert row.p is not None
        low, high = row.rho.interval
        inside = low.low <= paper.rho <= high.high
        checks.append(
            Check(
                row.cell, f"p = {row.p.text}", f"interval {'holds' if inside else 'leaves out'} {paper.rho:g}",
                row.p.value >= ALPHA and inside, row.source, decides=True,
            )
        )  # fmt: skip
    fine = sum(c.holds for c in checks)
    return from_checks(
        "audit/none-rejects", "section 4.1", f"none of {len(rows)} rejects {paper.rho:g} at 5 %", checks,
        f"{fine} of {len(rows)} rows have p of at least 0.05 and an interval that holds {paper.rho:g}.",
        "a 95 % interval and a test at 5 % belong together; that a test does not reject is no evidence for the "
        "hypothesis",
        "a row's p or interval is misprinted",
    )  # fmt: skip


def slopes_hold_one(paper: Reported) -> Finding:
    """`audit/slopes-hold-one`: every interval of a log-log slope holds 1."""
    rows = [row for row in paper.ratios if row.slope is not None and row.slope.has_interval]
    need(rows, "log-log slopes with intervals")
    checks = []
    for row in rows:
        assert row.slope is not None
        low, high = row.slope.interval
        checks.append(Check(row.cell, "consistent with 1", row.slope.text, low.low <= 1 <= high.high, row.source, True))
    fine = sum(c.holds for c in checks)
    return from_checks(
        "audit/slopes-hold-one", "section 4.1", "all slopes are consistent with 1", checks,
        f"{fine} of {len(rows)} intervals of the log-log slope hold 1.", "nothing beyond the printed intervals",
        "an interval is misprinted",
    )  # fmt: skip


def drop_ps(row: DropRow, dof: float) -> tuple[float, float]:
    """One- and two-sided p-values of a drop of 0 that the row allows, as one range."""
    low, high = p_range(distance_from(row.drop.value, 0.0), row.drop.half_width, dof)
    return low / 2, high


def drop_p(paper: Reported) -> Finding:
    """`audit/drop-p`: p of no drop against drop and interval, for every row and data set."""
    rows = [row for row in paper.drops if row.p is not None]
    need(rows, "p-values in the table of drops")
    checks = []
    for row in rows:
        assert row.p is not None
        ranges = [drop_ps(row, dof) for dof in (*REFERENCES, 24)]
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        fits = low <= row.p.high if row.p_below else row.p.meets(low, high)
        sign = "<" if row.p_below else "="
        checks.append(
            Check(
                f"kappa {row.kappa:g} on {row.dataset}", f"p {sign} {row.p.text}", span(low, high), fits, row.source,
                decides=low > ALPHA,
            )
        )  # fmt: skip
    fine = sum(c.holds for c in checks)
    return from_checks(
        "audit/drop-p", "table of drops", "p of no drop", checks,
        f"{fine} of {len(rows)} p-values of the table of drops lie in the range that drop and interval allow.",
        "normal, or t with 4, 20 or 24 degrees of freedom (the 25 values less one); one- or two-sided",
        "the p-values belong to other intervals",
    )  # fmt: skip


def anova_p(paper: Reported) -> Finding:
    """`audit/anova-p`: p against F and its degrees of freedom."""
    f, p = paper.figure("anova/f"), paper.figure("anova/p").measured.value
    between, within = paper.value("anova/df-between"), paper.value("anova/df-within")
    value = f.measured.value
    low, high = (float(stats.f.sf(x, between, within)) for x in (value.high, value.low))
    check = Check("p", p.text, span(low, high), p.meets(low, high), f.source, (low > ALPHA) != (p.value > ALPHA))
    return from_checks(
        "audit/anova-p", f.source, f"F({between:g}, {within:g}) = {value.text}, p = {p.text}", [check],
        f"F({between:g}, {within:g}) = {value.text} has p in {span(low, high)}; the paper prints {p.text}.",
        "the F distribution with the printed degrees of freedom", "F, p or a degree of freedom is misprinted",
    )  # fmt: skip


def anova_df(paper: Reported) -> Finding:
    """`audit/anova-df`: the degrees of freedom in the results, in the methods, and of the table itself."""
    between, within = paper.value("anova/df-between"), paper.value("anova/df-within")
    groups, estimates = len(paper.architectures), len(paper.ratios)
    table = (groups - 1, estimates - groups)
    checks = [Check("between, from the table", f"{between:g}", f"{table[0]}", between == table[0])]
    stated = [(between, within)]
    if paper.states("anova/df-within/methods"):
        methods = (paper.value("anova/df-between/methods"), paper.value("anova/df-within/methods"))
        stated.append(methods)
        checks.append(
            Check("results against methods", f"({between:g}, {within:g})", f"({methods[0]:g}, {methods[1]:g})",
                  (between, within) == methods, "sections 3.6 and 4.1")
        )  # fmt: skip
    per_seed = None
    if paper.states("count/seeds"):
        per_seed = (groups - 1, int(estimates * paper.value("count/seeds")) - groups)
    fits = [
        name
        for name, df in (("one value a cell", table), ("one value a cell and seed", per_seed))
        if df == (between, within)
    ]
    checks.append(
        Check(
            "within, from the table",
            f"{within:g}",
            " or ".join(f"{df[1]}" for df in (table, per_seed) if df),
            bool(fits),
        )
    )
    f = paper.value("anova/f")
    ps = {f"({a:g}, {b:g})": float(stats.f.sf(f, a, b)) for a, b in dict.fromkeys((*stated, table))}
    each = ", ".join(f"{p:.2f} with {name}" for name, p in ps.items())
    named = " and the methods ".join(f"({a:g}, {b:g})" for a, b in stated)
    verdict = "not significant with any" if min(ps.values()) > ALPHA else "significant with some"
    return from_checks(
        "audit/anova-df", "sections 3.6 and 4.1", f"({between:g}, {within:g})", checks,
        f"The results use {named} degrees of freedom, and the table's {estimates} estimates have ({table[0]}, "
        f"{table[1]}); F = {f:g} is {verdict} (p = {each}).",
        "a one-way analysis of variance over architectures, of one value a cell or one value a cell and seed",
        "methods and results describe one analysis, whose values are named", {"p": ps},
    )  # fmt: skip
