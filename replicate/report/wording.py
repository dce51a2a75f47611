"""The phrases that every report shares: numbers, intervals, margins, and the notice that evidence is a probe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from replicate.estimate.result import Estimate
from replicate.judging.verdict import CONTRADICTED, NOT_RUN, OUTCOMES, REPLICATED, span
from replicate.judging.verdict_file import Entry, VerdictFile
from replicate.paper.claim import Figure, Margin

CRASHED = "crashed"
"""Shown in place of an outcome where judging ended in an error; never a verdict."""


SENTENCES = {
    1: "the best weight decay grows in proportion to the learning rate",
    0: "the best weight decay does not depend on the learning rate",
    -1: "the best weight decay falls as the learning rate grows: their product stays the same",
    None: "how the best weight decay depends on the learning rate cannot be told from these runs",
}
"""Exponent of the learning rate in the best weight decay → what that says."""


AS_SURE = 0.2
"""How far around a law's exponent its interval may reach for the law to be stated: as the paper's margin does."""


def sentence(cell: Mapping[str, Any]) -> str:
    """What a judged cell of a sweep says, in one sentence: the law, and whether the paper's factor goes with it.

    A law is stated where the exponent's interval holds it alone and closely; else what is sure of the exponent is.
    """
    verdicts, rho, slope = cell["verdicts"], cell.get("rho") or {}, cell.get("slope") or {}
    exponent, low, high = cell["exponent"], slope.get("low"), slope.get("high")
    close = None not in (exponent, low, high) and exponent - AS_SURE <= low and high <= exponent + AS_SURE
    if exponent == 1 and close and verdicts.get("rho") == REPLICATED:
        return f"{SENTENCES[1]}, about 0.1 times it, as the paper says"
    if exponent == 1 and close and verdicts.get("rho") == CONTRADICTED and rho.get("value"):
        return f"{SENTENCES[1]}, but about {rho['value']:.2g} times it and not 0.1"
    if close:
        return SENTENCES[exponent]
    between = f"{_end(low)} to {_end(high)}"
    if low is not None and low > 0:
        perhaps = ": in proportion, perhaps" if exponent == 1 else ""
        return f"the best weight decay grows with the learning rate, as its power {between}{perhaps}"
    if high is not None and high < 0:
        perhaps = ": perhaps so that their product stays the same" if exponent == -1 else ""
        return f"the best weight decay falls as the learning rate grows, as its power {between}{perhaps}"
    if verdicts.get("slope") == CONTRADICTED:
        return f"the best weight decay does not grow in proportion to the learning rate, but as its power {between}"
    return SENTENCES[None]


def _end(value: float | None) -> str:
    return "any" if value is None else f"{value:.2g}".replace("-", "−")


def outcome_text(entry: Entry) -> str:
    """The outcome, or `crashed`."""
    return CRASHED if entry.crashed else entry.verdict.outcome


def reason_text(entry: Entry, settle: bool = True) -> str:
    """Why the verdict is what it is and, with `settle`, what would settle it where that is known."""
    if entry.crashed:
        return entry.crashed
    verdict = entry.verdict
    return f"{verdict.reason}; to settle: {verdict.settle}" if settle and verdict.settle else verdict.reason


def estimate_text(estimate: Estimate | None) -> str:
    """`0.0983 [0.081, 0.115] pp`; the interval alone where the data single out no value."""
    if estimate is None:
        return "-"
    if estimate.value is None or not math.isfinite(estimate.value):
        if math.isinf(estimate.low) and math.isinf(estimate.high):
            return "none"
        text = span(estimate.low, estimate.high)
    else:
        text = f"{estimate.value:.3g} {span(estimate.low, estimate.high)}"
    return f"{text} {estimate.unit}".rstrip()


def figure_text(figure: Figure | None) -> str:
    """The paper's figure as `0.098 [0.081, 0.115] pp`; a test's as `p = 0.82`."""
    if figure is None:
        return "-"
    interval = "" if figure.low is None or figure.high is None else f" {span(figure.low, figure.high)}"
    if figure.unit == "p" or figure.unit.startswith("F("):
        return f"{figure.unit} = {figure.value:g}{interval}"
    return f"{figure.value:g}{interval} {figure.unit}".rstrip()


def margin_text(margin: Margin) -> str:
    """`[0.05, 0.2]`, or one-sided `≤ 0.3`; an exact value (a margin of rounding errors only) as `= 0.125`."""
    if math.isinf(margin.low):
        return f"≤ {margin.high:.3g}"
    if math.isinf(margin.high):
        return f"≥ {margin.low:.3g}"
    if f"{margin.low:.6g}" == f"{margin.high:.6g}":
        return f"= {margin.low:.3g}"
    return span(margin.low, margin.high)


def notices(file: VerdictFile) -> list[str]:
    """What a reader must know before any verdict: that the evidence is a probe, or made up."""
    out = []
    if file.probe:
        out.append(
            f"PROBE: scale {file.scale} is not the paper's protocol ({file.summary}). Trained: {trained_text(file)}. "
            "The paper's own cells were not run; no verdict here speaks for them."
        )
    if file.synthetic:
        out.append(
            "SYNTHETIC: landscapes made by a formula are among the evidence; nothing here is about real training."
        )
    return out


def trained_text(file: VerdictFile) -> str:
    """`resnet50, vit_s16 on digits`: what was really trained, by data set."""
    by_data: dict[str, list[str]] = {}
    for text in file.trained:
        arch, _, data = text.partition(" on ")
        by_data.setdefault(data, []).append(arch)
    return "; ".join(f"{', '.join(archs)} on {data}" for data, archs in by_data.items()) or "nothing"


def counts_text(file: VerdictFile) -> str:
    """`94 claims: 1 replicated, 3 contradicted, …`: every claim of the registry, once."""
    shown = [outcome_text(e) for e in file.entries]
    parts = [f"{shown.count(o)} {o}" for o in (*OUTCOMES, CRASHED) if o != CRASHED or o in shown]
    return f"{len(shown)} claims: {', '.join(parts)}"


def same_reason(entries: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    """Claims that were not run, grouped by reason in order of appearance."""
    groups: dict[str, list[Entry]] = {}
    for e in entries:
        if outcome_text(e) == NOT_RUN:
            groups.setdefault(reason_text(e), []).append(e)
    return list(groups.items())
