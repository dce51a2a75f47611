"""A finding: what the paper says, the same recomputed, and whether the two agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

CONSISTENT = "consistent"
INCONSISTENT = "inconsistent"
DECISION_INCONSISTENT = "decision-inconsistent"
OUTCOMES = (CONSISTENT, INCONSISTENT, DECISION_INCONSISTENT)
"""From mild to severe: the figures agree; a figure is wrong; a conclusion of the paper changes."""


class NotStated(Exception):
    """The paper does not state what an audit needs; the message says what is missing."""


@dataclass(frozen=True)
class Check:
    """One comparison of a printed figure or statement with its recomputation."""

    what: str
    printed: str
    recomputed: str
    _: KW_ONLY
    holds: bool
    source: str = ""
    decides: bool = False
    """Whether a conclusion of the paper depends on this comparison."""

    @property
    def outcome(self) -> str:
        if self.holds:
            return CONSISTENT
        return DECISION_INCONSISTENT if self.decides else INCONSISTENT

    def to_json(self) -> dict[str, str]:
        return {
            "what": self.what,
            "source": self.source,
            "printed": self.printed,
            "recomputed": self.recomputed,
            "outcome": self.outcome,
        }


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one audit."""

    id: str = ""
    """The audit's id, set by `Audit.find`."""
    outcome: str
    evidence: str
    """One sentence with the numbers."""
    source: str
    """Place in the paper."""
    claimed: str
    """The paper's figures, as printed."""
    recomputed: str
    """The same figures recomputed, as the interval compatible with rounding."""
    assumes: str
    """The reference distribution or the reading of the paper that the check rests on."""
    consistent_if: str = ""
    """What would make the figures agree after all; empty if they agree already."""
    checks: tuple[Check, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{self.id}: expected an outcome of {', '.join(OUTCOMES)}; got {self.outcome!r}")
        if (self.outcome == CONSISTENT) == bool(self.consistent_if):
            raise ValueError(
                f"{self.id}: expected an empty consistent_if if the outcome is consistent, a text if not; "
                f"got {self.consistent_if!r} with outcome {self.outcome}"
            )

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON types, except that `details` may hold NumPy numbers and NaN."""
        return {**vars(self), "checks": [c.to_json() for c in self.checks], "details": dict(self.details)}


def worst(outcomes: Iterable[str]) -> str:
    """The most severe of `outcomes`; `consistent` if there are none."""
    return max(outcomes, key=OUTCOMES.index, default=CONSISTENT)


def from_checks(
    checks: Sequence[Check],
    *,
    claimed: str,
    evidence: str,
    assumes: str,
    consistent_if: str,
    source: str = "",
    details: Mapping[str, Any] | None = None,
) -> Finding:
    """The finding of several checks; `source` defaults to the checks' own, `consistent_if` is dropped if all hold."""
    outcome = worst(c.outcome for c in checks)
    return Finding(
        outcome=outcome,
        evidence=evidence,
        source=source or ", ".join(dict.fromkeys(c.source for c in checks)),
        claimed=claimed,
        recomputed="; ".join(f"{c.what}: {c.recomputed}" for c in failing(checks) or checks),
        assumes=assumes,
        consistent_if="" if outcome == CONSISTENT else consistent_if,
        checks=tuple(checks),
        details=details or {},
    )


def failing(checks: Iterable[Check]) -> list[Check]:
    return [c for c in checks if not c.holds]


def holding(checks: Sequence[Check]) -> str:
    """How many checks hold, as in `9 of 10`."""
    return f"{sum(c.holds for c in checks)} of {len(checks)}"


def number(x: float, digits: int = 3) -> str:
    """`x` to `digits` significant digits; `undefined` if it is not finite, `0` if it is 0 up to rounding error."""
    if not math.isfinite(x):
        return "undefined"
    return f"{0.0 if abs(x) < 1e-12 else x:.{digits}g}"


def span(low: float, high: float, digits: int = 3) -> str:
    """The interval as `[0.58, 0.586]`, or as one number if both ends print alike."""
    ends = number(low, digits), number(high, digits)
    return ends[0] if ends[0] == ends[1] else f"[{ends[0]}, {ends[1]}]"
