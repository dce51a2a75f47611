"""Criteria that stand beside a verdict and never decide it, from its claim and estimate.

Whether the paper's figure lies in our interval, whether our value lies where the paper's interval and ours together
predict it, whether the effect points the claimed way, and where the paper's own method would have said something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from replicate.estimate.result import Estimate
from replicate.judging.verdict import CONTRADICTED, REPLICATED, Verdict, position, span
from replicate.paper.claim import Claim, Figure, Margin

IN_LOGARITHMS = ("rho", "rho_pooled", "rho_rejects", "rho_sgd")
"""Quantities that are measured by their logarithm."""
SIGNIFICANT = 0.05


def of_figure(claim: Claim, found: Estimate) -> dict[str, Any]:
    """`the paper's figure`, `prediction interval` and `direction`, those that the claim and the estimate allow."""
    out: dict[str, Any] = {}
    figure = claim.figure
    closed = math.isfinite(found.low) and math.isfinite(found.high)
    if figure is not None and figure.unit == found.unit and closed and not claim.direction:  # a bound is no figure
        out["the paper's figure"] = {"value": figure.value, "in our interval": found.low <= figure.value <= found.high}
        if (interval := prediction_interval(figure, found, claim.quantity in IN_LOGARITHMS)) is not None:
            held = found.value is not None and interval[0] <= found.value <= interval[1]
            out["prediction interval"] = {"interval": list(interval), "holds our value": held}
    if claim.direction and found.value is not None:
        out["direction"] = _side(found.low, found.high, claim.margin, claim.direction)
    elif claim.quantity == "slope":
        out["direction"] = direction_of_slope(found)
    return out


def direction_of_slope(found: Estimate) -> str:
    """Whether the best weight decay rises with the learning rate, which is what the paper claims of its direction."""
    return "as claimed: rises" if found.low > 0 else "the other way: falls" if found.high < 0 else "can't be told"


def prediction_interval(figure: Figure, found: Estimate, logarithms: bool) -> tuple[float, float] | None:
    """Where a second estimate is expected, at the interval's level, if both measure the same; None without intervals.

    The first estimate plus and minus both half-widths, added in squares (Patil, Peng and Leek 2016); of ratios, in
    logarithms.
    """
    if figure.low is None or figure.high is None or (logarithms and min(figure.low, found.low) <= 0):
        return None
    to, back = (math.log, math.exp) if logarithms else (float, float)
    half = math.hypot((to(figure.high) - to(figure.low)) / 2, (to(found.high) - to(found.low)) / 2)
    return back(to(figure.value) - half), back(to(figure.value) + half)


def _side(low: float, high: float, margin: Margin, direction: str) -> str:
    edge = margin.low if direction == "higher" else margin.high
    claimed, other = (low >= edge, high < edge) if direction == "higher" else (high <= edge, low > edge)
    return f"{'as claimed' if claimed else 'the other way' if other else 'perhaps'}: {direction} than {edge:g}"


def by_the_papers_method(quantity: str, published: Mapping[str, Any], margin: Margin) -> tuple[str, str] | None:
    """Outcome and figures by the paper's method (`beside.secondary`), None where it has none for the quantity.

    Its interval of the ratio in or out of the margin; its slope and R², of which it gives no interval, by themselves;
    its intercept by significance.
    """
    if quantity in IN_LOGARITHMS and published.get("rho_low") is not None:
        low, high = published["rho_low"], published["rho_high"]
        return position(low, high, margin), f"{published['rho']:.3g} {span(low, high)}"
    if quantity in ("slope", "r2") and published.get(quantity) is not None:
        value = published[quantity]
        return REPLICATED if margin.low <= value <= margin.high else CONTRADICTED, f"{value:.3g}"
    if quantity == "intercept_share" and published.get("intercept_p") is not None:
        p = published["intercept_p"]
        return CONTRADICTED if p < SIGNIFICANT else REPLICATED, f"p {p:.2g}"
    return None


def disagreement(quantity: str, verdict: Verdict, published: Mapping[str, Any]) -> str:
    """A word on where the paper's method would give another verdict; empty where it gives the same one."""
    found = by_the_papers_method(quantity, published, verdict.margin)
    if found is None or found[0] == verdict.outcome:
        return ""
    outcome, figures = found
    if quantity == "intercept_share":
        why = "it takes what is not significant for nothing"
    elif quantity in ("slope", "r2"):
        why = "it gives no interval, and takes the best run of each learning rate for its optimum"
    else:
        why = "it takes the best run of each learning rate for its optimum, without the error of that"
    return f"the paper's method would say {outcome}: {figures}; {why}"
