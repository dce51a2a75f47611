"""The decision rule: an estimate compared with a claim's margin gives a verdict with its reason."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from replicate.estimate import details
from replicate.estimate.estimate import Estimate
from replicate.estimate.flags import Flag
from replicate.estimate.line_fit import MOST_TIMES, TOO_MANY
from replicate.judging import reasons
from replicate.judging.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    REPLICATED,
    Evidence,
    Outcome,
    Secondary,
    StrictBand,
    Verdict,
)
from replicate.paper.cells import Cell
from replicate.paper.claim import Claim, Margin
from replicate.paper.protocol import RHO

MISPLACED = 1.1
"""Factor by which a cell's interval, simultaneous over ten cells, is widened before it can reject a ratio of 0.10. It
allows for the bias in the position of an asymmetric peak, which is the same in every cell."""
MORE_SEEDS = "more seeds"
"""`settle` of an estimate whose interval narrows with the square root of the number of seeds."""


def position(low: float, high: float, margin: Margin) -> Outcome:
    """Where an interval lies: inside the margin, outside it, or neither (three-sided test).

    Args:
        low: Lower end, in the margin's unit; minus infinity if not bounded.
        high: Upper end; infinity if not bounded.
        margin: The values that agree with the claim.

    >>> position(0.9, 1.1, Margin(0.8, 1.2)).value
    'replicated'
    """
    if margin.low <= low and high <= margin.high:
        return REPLICATED
    if high < margin.low or low > margin.high:
        return CONTRADICTED
    return INCONCLUSIVE


def decide(claim: Claim, found: Estimate, evidence: Evidence, left_out: Collection[Cell] = ()) -> Verdict:
    """The verdict on `claim` from the estimate of its quantity.

    A claim about a ratio (best λ / η) says that one ratio holds at every η. If the slope of ln(best λ) on ln(η) is not
    1, the mean ratio depends on the learning rates run and settles nothing; then the claim is contradicted if the ratio
    at some η lies outside the margin, by intervals simultaneous over all η. It cannot be `replicated` if the most
    likely ratio at any η lies outside the margin.

    Args:
        claim: The claim with its margin.
        found: The estimate of the claim's quantity, in the margin's unit.
        evidence: The runs on which the estimate rests.
        left_out: The cells of the claim that were not run.
    """
    found = _off(claim.margin, found)
    if claim.quantity == "rho_rejects":
        verdict = _rejection(claim, found, evidence)
    else:
        verdict = _where_it_varies(rule(claim, found, evidence))
    return _of_all_cells(claim, left_out, verdict)


def rule(claim: Claim, estimate: Estimate, evidence: Evidence) -> Verdict:
    """The verdict by whether the interval of `estimate` lies inside the claim's margin, outside it, or neither."""
    outcome = position(estimate.low, estimate.high, claim.margin)
    reason = reasons.sentence(estimate, claim.margin, can_tell=outcome != INCONCLUSIVE)
    if estimate.flags:
        reason += f"; {', '.join(estimate.flags)}"
    if outcome == REPLICATED and (why := _forbidden(estimate)):
        outcome = INCONCLUSIVE
        reason += f", but {why}"
    elif outcome == REPLICATED and Flag.INERT in estimate.flags:
        reason += f"; it says nothing about weight decay: {Flag.INERT.meaning}"
    settle = numbered(estimate, claim.margin, evidence.seeds) if outcome == INCONCLUSIVE else ""
    beside = Secondary()
    if (strict := claim.strict) is not None:
        beside = Secondary(
            strict_band=StrictBand(strict.low, strict.high, position(estimate.low, estimate.high, strict))
        )
    return Verdict(claim.id, outcome, reason, claim.margin, evidence, estimate, settle, beside)


def _forbidden(estimate: Estimate) -> str:
    """Why the flags of `estimate` rule out `replicated`; empty if they do not."""
    return ", and ".join(flag.forbids for flag in estimate.flags if flag.forbids)


def _ratios(found: Estimate) -> tuple[details.RatioAt, ...]:
    """The ratio at each learning rate if `found` estimates a ratio; otherwise none."""
    return found.details.ratios_together if isinstance(found.details, details.Ratio | details.PooledRatio) else ()


def _where_it_varies(verdict: Verdict) -> Verdict:
    """`verdict`, contradicted if the ratio varies and lies outside the margin at some learning rate."""
    found, margin = verdict.estimate, verdict.margin
    if found is None or Flag.RATIO_VARIES not in found.flags or verdict.outcome == CONTRADICTED:
        return verdict
    for row in _ratios(found):
        low, high = _ends(row)
        if position(low, high, margin) == CONTRADICTED:
            reason = (
                f"the ratio changes with the learning rate: at η = {row.lr:g} best λ is "
                f"{reasons.span(low, high, (margin.low, margin.high))} times η (claimed: "
                f"{reasons.span(margin.low, margin.high, digits=3)}), at a level that holds for all of them together"
            )
            return replace(verdict, outcome=CONTRADICTED, reason=reason, settle="")
    return verdict


def _off(margin: Margin, found: Estimate) -> Estimate:
    """`found` with the flag `ratio-off` if the likeliest ratio at some learning rate lies outside the margin.

    Where the best weight decay is bounded on one side only, the whole interval must lie outside.
    """
    for row in _ratios(found):
        low, high = _ends(row) if row.value is None else (row.value, row.value)
        if position(low, high, margin) == CONTRADICTED:
            where = f"{row.where}, where the ratio seems to be {reasons.span(low, high, (margin.low, margin.high))}"
            settle = f"more seeds or more closely spaced weight decays for {where}"
            return replace(found, flags=(*found.flags, Flag.RATIO_OFF), settle=settle)
    return found


def _ends(row: details.RatioAt) -> tuple[float, float]:
    """The interval of `row`, infinite where it is not bounded."""
    return -math.inf if row.low is None else row.low, math.inf if row.high is None else row.high


def _rejection(claim: Claim, found: Estimate, evidence: Evidence) -> Verdict:
    """The verdict on a claim that a cell's data do not reject a ratio of 0.10 (quantity `rho_rejects`).

    A large p value alone does not make it `replicated`: the interval must also lie within the margin. To contradict it,
    the rejection must remain significant after correcting for the ten cells that are tested.
    """
    low, high = found.low, found.high
    if isinstance(found.details, details.Ratio) and found.details.family is not None:
        low, high = found.details.family.low, found.details.family.high
    if not low / MISPLACED <= RHO <= high * MISPLACED:
        outcome = CONTRADICTED
        ends = reasons.span(low / MISPLACED, high * MISPLACED, (RHO,))
        where = f"best λ is {ends} times η{reasons.varying(found)}"
        why = f"{where}; 0.10 is rejected at a level that holds for all ten cells together"
    elif found.low <= RHO <= found.high and position(found.low, found.high, claim.margin) == REPLICATED:
        outcome = REPLICATED
        why = "the 95 % interval contains 0.10 and lies within a factor 2 of it"
        if but := _forbidden(found):
            outcome = INCONCLUSIVE
            why += f", but {but}"
    else:
        outcome = INCONCLUSIVE
        why = "neither 0.10 (for all ten cells together) nor every ratio more than a factor 2 from it is excluded"
    settle = found.settle if outcome == INCONCLUSIVE else ""
    return Verdict(claim.id, outcome, why, claim.margin, evidence, found, settle)


def _of_all_cells(claim: Claim, left_out: Collection[Cell], verdict: Verdict) -> Verdict:
    """`verdict` with a note on the cells left out; under the paper's protocol such cells rule out `replicated`."""
    if not left_out:
        return verdict
    judged = len(claim.cells) - len(left_out)
    reason = f"on {judged} of the paper's {len(claim.cells)} cells: {verdict.reason}"
    if verdict.outcome == REPLICATED and not verdict.evidence.probe:
        settle = f"the runs of {', '.join(cell.id for cell in left_out)}"
        return replace(verdict, outcome=INCONCLUSIVE, reason=reason, settle=settle)
    return replace(verdict, reason=reason)


def numbered(estimate: Estimate, margin: Margin, seeds: int) -> str:
    """What would settle the claim, with `more seeds` replaced by a number of seeds.

    With that number, if the value stays the same, the interval no longer crosses an edge of the margin: the width is
    taken to be proportional to 1/√seeds.
    """
    value = estimate.value
    if estimate.settle != MORE_SEEDS or value is None or seeds < 1:
        return estimate.settle
    # Only edges that the interval crosses count.
    shares = []
    for edge in (margin.low, margin.high):
        end = estimate.low if edge < value else estimate.high
        if math.isfinite(edge) and math.isfinite(end) and estimate.low < edge < estimate.high:
            shares.append(abs(end - value) / abs(edge - value) if edge != value else math.inf)
    if not shares:
        return estimate.settle
    times = max(shares) ** 2
    if times > MOST_TIMES:
        return TOO_MANY
    more = max(1, math.ceil(seeds * (times - 1)))
    return f"about {more} more seed{'s' if more > 1 else ''}"
