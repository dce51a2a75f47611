"""Phrases that all reports share: numbers, intervals, margins, verdicts, and warnings if runs are not the paper's."""

from __future__ import annotations

import math
from collections.abc import Iterable

from replicate.estimate.estimate import Estimate
from replicate.judging.reasons import absent
from replicate.judging.sweep_verdicts import JudgedCell
from replicate.judging.verdict import CONTRADICTED, NOT_RUN, OUTCOMES, REPLICATED, Altered, Verdict
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.paper.claim import Figure, Margin
from replicate.text import bounds, interval

CRASHED = "crashed"
"""Shown instead of an outcome if judging failed with an error; not a verdict."""


SENTENCES = {
    1: "the best weight decay grows in proportion to the learning rate",
    0: "the best weight decay does not depend on the learning rate",
    -1: "the best weight decay falls as the learning rate grows, so that their product stays the same",
    None: "how the best weight decay depends on the learning rate cannot be told from these runs",
}
"""Exponent of the learning rate in the best weight decay → that law in words."""


AS_SURE = 0.2
"""A law is stated only if the slope's interval lies within this distance of its exponent: half the slope's margin."""


def sentence(cell: JudgedCell) -> str:
    """One sentence on how the best weight decay of a sweep depends on the learning rate, without the full stop.

    A law is stated only if the exponent's interval is narrow (`AS_SURE`) and contains no other law's exponent;
    otherwise the interval is stated.
    """
    rho, slope, exponent = cell.measured["rho"], cell.measured["slope"], cell.exponent
    close = exponent is not None and exponent - AS_SURE <= slope.low and slope.high <= exponent + AS_SURE
    if exponent == 1 and close and cell.outcomes["rho"] == REPLICATED:
        return f"{SENTENCES[1]}, about 0.1 times it, as the paper says"
    if exponent == 1 and close and cell.outcomes["rho"] == CONTRADICTED and rho.value:
        return f"{SENTENCES[1]}, but it is about {rho.value:.2g} times it and not 0.1"
    if close:
        return SENTENCES[exponent]
    law = f"λ* ∝ η^b with b {_between(slope.low, slope.high)} ({100 * slope.level:g} %)"
    if slope.low > 0:
        perhaps = ", perhaps in proportion" if exponent == 1 else ""
        return f"the best weight decay grows with the learning rate{perhaps}: {law}"
    if slope.high < 0:
        perhaps = ", perhaps so that their product stays the same" if exponent == -1 else ""
        return f"the best weight decay falls as the learning rate grows{perhaps}: {law}"
    if cell.outcomes["slope"] == CONTRADICTED:
        return f"the best weight decay does not grow in proportion to the learning rate: {law}"
    return SENTENCES[None]


def _between(low: float, high: float) -> str:
    """`from 0.2 to 0.9`, `≥ 0.24`, `≤ −0.1`."""
    if math.isfinite(low) and math.isfinite(high):
        return f"from {low:.2g} to {high:.2g}".replace("-", "−")
    return bounds(low, high).replace("-", "−")


def outcome_text(entry: Entry) -> str:
    """The outcome as text, or `crashed`."""
    return CRASHED if entry.crashed else entry.verdict.outcome


def reason_text(entry: Entry, settle: bool = True) -> str:
    """The reason of the verdict and, with `settle`, what would settle it if that is known."""
    if entry.crashed:
        return entry.crashed
    verdict = entry.verdict
    return f"{verdict.reason}; to settle: {verdict.settle}" if settle and verdict.settle else verdict.reason


PROVISIONAL = "provisional, counted as not run: judged from the complete seeds, fewer than the claim needs"
"""Heading of a list of provisional verdicts."""


def provisional_words(verdict: Verdict) -> str:
    """`contradicted by 3 seeds, -0.9 [-1.2, -0.6]`; empty if there is no provisional verdict."""
    found = verdict.provisional
    return "" if found is None else f"{found.outcome} by {found.seeds} seeds, {estimate_text(found.estimate)}"


def provisional_text(entry: Entry) -> str:
    """As `provisional_words`, with the reason."""
    found = entry.verdict.provisional
    return "" if found is None or entry.crashed else f"{provisional_words(entry.verdict)}: {found.reason}"


def estimate_text(estimate: Estimate | None) -> str:
    """`0.0983 [0.081, 0.115] pp`; only the interval if the data single out no value."""
    if estimate is None:
        return "—"
    if estimate.value is None or not estimate.closed:
        if estimate.low in (-math.inf, 0) and math.isinf(estimate.high):
            return f"— ({absent(estimate) or 'not bounded'})"
        text = interval(estimate.low, estimate.high)
    else:
        text = f"{estimate.value:.3g} {interval(estimate.low, estimate.high)}"
    return f"{text} {estimate.unit}".rstrip()


N_OF = {
    **dict.fromkeys(("drop_pp", "hurts_pp", "zone_pp", "growth_exponent"), "pairs"),
    **dict.fromkeys(("asymmetry_pp", "gap_pp"), "seeds"),
    **dict.fromkeys(
        ("mean_gap_pp", "max_gap_pp", "gap_minus_seed_sd_pp", "rho_pooled", "max_ratio", "sgd_ratio"), "cells"
    ),
    "cost_ratio": "runs",
}
"""Quantity → what `Estimate.n` counts (pairs: of runs); for all others, learning rates with a bounded optimum."""


def n_text(estimate: Estimate | None) -> str:
    """How many observations an estimate is based on: `25 pairs`, `3 rates`."""
    if estimate is None:
        return "—"
    unit = N_OF.get(estimate.quantity, "rates")
    return f"{estimate.n} {unit.removesuffix('s') if estimate.n == 1 else unit}"


KINDS = {
    Altered.SEED: ("without seed", "each seed"),
    Altered.LR: ("without learning rate", "each learning rate"),
    Altered.WDS: ("without every second weight decay,", "every second weight decay"),
    Altered.BEST_EPOCH: ("by the best epoch", "the best epoch"),
    Altered.LEVEL: ("at level", "another level"),
}


def sure_text(verdict: Verdict) -> str:
    """How robust a verdict is: `same in 14 of 16 trials: inconclusive without seed 2 or 4`; empty if unknown."""
    if verdict.how_sure is None:
        return ""
    changed = verdict.how_sure.changed(verdict.outcome)
    tried = len(verdict.how_sure.trials)
    if not changed:
        return f"same in all {tried} trials"
    parts = []
    for outcome in dict.fromkeys(trial.outcome for trial in changed):
        where: dict[Altered, list[str]] = {}
        for trial in changed:
            if trial.outcome == outcome:
                where.setdefault(trial.altered, []).append(trial.which)
        words = (f"{KINDS[kind][0]} {' or '.join(which)}".rstrip() for kind, which in where.items())
        parts.append(f"{outcome} {', '.join(words)}")
    return f"same in {tried - len(changed)} of {tried} trials: {'; '.join(parts)}"


def figure_text(figure: Figure | None) -> str:
    """The paper's figure: `0.098 [0.081, 0.115] pp`, or `p = 0.82` for a test."""
    if figure is None:
        return "-"
    ends = "" if figure.low is None or figure.high is None else f" {interval(figure.low, figure.high)}"
    if figure.unit == "p" or figure.unit.startswith("F("):
        return f"{figure.unit} = {figure.value:g}{ends}"
    return f"{figure.value:g}{ends} {figure.unit}".rstrip()


def margin_text(margin: Margin) -> str:
    """The margin: `[0.05, 0.2]`, one-sided `≤ 0.3`, or `= 0.125` if it only allows for rounding errors."""
    if f"{margin.low:.6g}" == f"{margin.high:.6g}":
        return f"= {margin.low:.3g}"
    return bounds(margin.low, margin.high)


def notices(file: VerdictFile) -> list[str]:
    """Warnings that come before all verdicts: runs are not at the paper's protocol (a probe), or are made up."""
    out = []
    if file.probe:
        out.append(
            f"PROBE: scale {file.scale} is not the paper's protocol ({file.summary}). Trained: {trained_text(file)}. "
            "The paper's own cells were not run, and no verdict here applies to them."
        )
    if file.synthetic:
        out.append("SYNTHETIC: some of the evidence was made up by a formula; nothing here is about real training.")
    return out


def trained_text(file: VerdictFile) -> str:
    """What was really trained, by data set: `resnet50, vit_s16 on digits`."""
    by_data: dict[str, list[str]] = {}
    for text in file.trained:
        arch, _, data = text.partition(" on ")
        by_data.setdefault(data, []).append(arch)
    return "; ".join(f"{', '.join(archs)} on {data}" for data, archs in by_data.items()) or "nothing"


def counts_text(file: VerdictFile) -> str:
    """Counts over all claims of the registry: `94 claims: 1 replicated, 3 contradicted, …`."""
    shown = [outcome_text(e) for e in file.entries]
    parts = [f"{shown.count(o)} {o}" for o in (*OUTCOMES, CRASHED) if o != CRASHED or o in shown]
    return f"{len(shown)} claims: {', '.join(parts)}"


def same_reason(entries: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    """Claims that were not run, by reason, in order of appearance; numbers of missing runs become a range."""
    groups: dict[str, list[Entry]] = {}
    for e in entries:
        if outcome_text(e) == NOT_RUN:
            groups.setdefault(reason_text(e).removeprefix(e.verdict.evidence.missing_text), []).append(e)
    return [(_missing_text(group) + reason, group) for reason, group in groups.items()]


def _missing_text(group: list[Entry]) -> str:
    """How many runs the claims of one reason lack; empty if the reason is not a lack of runs."""
    lacking = [e.verdict.evidence for e in group if reason_text(e).startswith(e.verdict.evidence.missing_text)]
    if len({evidence.missing_text for evidence in lacking}) == 1:
        return lacking[0].missing_text
    missing = sorted(evidence.runs_missing for evidence in lacking)
    return f"{missing[0]} to {missing[-1]} runs of each claim are not in the store" if missing else ""
