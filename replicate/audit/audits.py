"""Every audit and theory check by its id; `run` performs those for which a paper states enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property, partial

from replicate.audit import (
    compute,
    counts,
    deviation,
    documents,
    grid,
    intervals,
    one_dim,
    pipeline,
    practice,
    reachability,
    significance,
)
from replicate.audit.finding import OUTCOMES, Finding, NotStated
from replicate.audit.reported import RatioRow, Reported
from replicate.audit.theory import equilibrium, inertness, quadratic, scale


@dataclass(frozen=True)
class Audit:
    """One check of one paper."""

    id: str
    recompute: Callable[[], Finding]
    """Raises NotStated if the paper does not say enough."""

    def find(self) -> Finding:
        """The finding with this audit's id, computed at the first call; raises NotStated as `recompute` does."""
        return self._finding

    @cached_property
    def _finding(self) -> Finding:
        return dataclasses.replace(self.recompute(), id=self.id)

    @property
    def family(self) -> str:
        """The id up to its first `/`: `audit` (the paper's figures and design) or `theory` (its derivation)."""
        return self.id.partition("/")[0]


Find = Callable[[Reported], Finding]

PER_CELL: tuple[tuple[str, Callable[[Reported, RatioRow], Finding]], ...] = (
    ("audit/reachability", reachability.find),
    ("audit/p-values", significance.p_value),
)
PER_PAPER: tuple[tuple[str, Find], ...] = (
    ("audit/on-grid", grid.line_and_drops),
    ("audit/inert-decay", grid.inert_decay),
    ("audit/sgd-on-grid", grid.sgd_line),
    ("audit/pipeline-on-truth", pipeline.on_truth),
    ("audit/p-reference", significance.one_reference),
    ("audit/none-rejects", significance.none_rejects),
    ("audit/slopes-hold-one", significance.slopes_hold_one),
    ("audit/drop-p", significance.drop_p),
    ("audit/anova-p", significance.anova_p),
    ("audit/anova-df", significance.anova_df),
    ("audit/pooled-interval", intervals.pooled),
    ("audit/interval-symmetry", intervals.symmetry),
    ("audit/interval-widths", intervals.widths),
    ("audit/run-count", counts.run_count),
    ("audit/grid-count", counts.grid_count),
    ("audit/uncounted-runs", counts.uncounted),
    ("audit/saving", counts.saving),
    ("audit/within-0.3", one_dim.within_bound),
    ("audit/gap-sign", one_dim.gap_sign),
    ("audit/mean-gap", one_dim.mean_gap),
    ("audit/noise-floor", one_dim.noise_floor),
    ("audit/deviation-range", deviation.deviation_range),
    ("audit/tolerance-zone", deviation.tolerance_zone),
    ("audit/deviation-growth", deviation.growth),
    ("audit/asymmetry", deviation.asymmetry),
    ("audit/robust-range", practice.robust_range),
    ("audit/300-epochs-baseline", practice.baseline),
    ("audit/three-cnns", counts.three_cnns),
    ("audit/recipe-arithmetic", practice.recipe_arithmetic),
    ("audit/recipes", practice.recipes),
    ("audit/compute", compute.compute),
    ("audit/script", documents.script),
    ("audit/contradictory-statements", documents.contradictions),
    ("audit/references", documents.references),
    ("audit/cited-work", documents.cited_work),
    ("theory/effective-l2", quadratic.effective_l2),
    ("theory/constant-ratio-preserves-balance", scale.balance),
    ("theory/equilibrium-norm", equilibrium.equilibrium),
    ("theory/constant-ratio-keeps-norm", equilibrium.constant_ratio),
    ("theory/l2-closed-form", quadratic.l2_closed_form),
    ("theory/inertness", inertness.inertness),
)


@cache
def audits(paper: Reported) -> tuple[Audit, ...]:
    """Every audit of `paper`, in a fixed order; each computes its finding when first asked and keeps it in memory."""
    cells = (Audit(f"{name}/{row.cell}", partial(find, paper, row)) for name, find in PER_CELL for row in paper.ratios)
    return (*cells, *(Audit(name, partial(find, paper)) for name, find in PER_PAPER))


@dataclass(frozen=True)
class Report:
    """The findings of the audits of one paper."""

    paper: str
    findings: tuple[Finding, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """(id of an audit, what the paper does not state)."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings for each of the three outcomes."""
        return {o: sum(f.outcome == o for f in self.findings) for o in OUTCOMES}


def _without_sections(finding: Finding) -> Finding:
    """The finding without section numbers, which refer to this project's paper and would be wrong for another."""
    checks = tuple(
        dataclasses.replace(c, source="the paper" if "section" in c.source else c.source) for c in finding.checks
    )
    source = "the paper" if "section" in finding.source else finding.source
    return dataclasses.replace(finding, source=source, checks=checks)


def run(paper: Reported, chosen: Iterable[Audit] | None = None) -> Report:
    """The findings of all audits of `paper`, or of the audits in `chosen`."""
    findings, left_out = [], []
    for audit in audits(paper) if chosen is None else chosen:
        try:
            finding = audit.find()
        except NotStated as missing:
            left_out.append((audit.id, str(missing)))
            continue
        findings.append(finding if paper.sectioned else _without_sections(finding))
    return Report(paper.name, tuple(findings), tuple(left_out))
