"""A finding: what the paper says in one place, what follows when it is recomputed, and how far the two are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CONSISTENT = "consistent"
INCONSISTENT = "inconsistent"
DECISION_INCONSISTENT = "decision-inconsistent"
OUTCOMES = (CONSISTENT, INCONSISTENT, DECISION_INCONSISTENT)
"""From mild to severe: the figures fit; a figure is off; a conclusion of the paper changes."""


class NotStated(Exception):
    """A paper without what an audit needs; the message says what is missing."""


@dataclass(frozen=True)
class Check:
    """One comparison of a printed figure or statement with its recomputation."""

    what: str
    printed: str
    recomputed: str
    holds: bool
    source: str = ""
    decides: bool = False
    """Whether a conclusion of the paper falls with it."""

    @property
    def outcome(self) -> str:
        if self.holds:
            return CONSISTENT
        return DECISION_INCONSISTENT if self.decides else INCONSISTENT


@dataclass(frozen=True)
class Finding:
    """The result of one audit."""

    id: str
    source: str
    """Where in the paper."""
    claimed: str
    """The paper's figures, as printed."""
    recomputed: str
    """The same figures recomputed, with the interval that rounding leaves."""
    outcome: str
    evidence: str
    """One plain sentence with the numbers."""
    assumes: str
    """The reference distribution or the reading of the paper that the check rests on."""
    consistent_if: str = ""
    """What would make the figures fit after all; empty where they do."""
    checks: tuple[Check, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{self.id}: expected an outcome of {', '.join(OUTCOMES)}; got {self.outcome!r}")
        if (self.outcome == CONSISTENT) == bool(self.consistent_if):
            raise ValueError(f"{self.id}: expected what would make it consistent exactly where it is not")

    def to_json(self) -> dict[str, Any]:
        """JSON types, but for numbers of NumPy and NaN inside `details`."""
        return {
            "id": self.id,
            "outcome": self.outcome,
            "evidence": self.evidence,
            "source": self.source,
            "claimed": self.claimed,
            "recomputed": self.recomputed,
            "assumes": self.assumes,
            "consistent_if": self.consistent_if,
            "checks": [
                {
                    "what": c.what,
                    "source": c.source,
                    "printed": c.printed,
                    "recomputed": c.recomputed,
                    "outcome": c.outcome,
                }
                for c in self.checks
            ],
            "details": dict(self.details),
        }


def worst(outcomes: Iterable[str]) -> str:
    """The most severe of some outcomes; `consistent` where there are none."""
    return max(outcomes, key=OUTCOMES.index, default=CONSISTENT)


def from_checks(
    finding_id: str,
    source: str,
    claimed: str,
    checks: Iterable[Check],
    evidence: str,
    assumes: str,
    consistent_if: str,
    details: Mapping[str, Any] | None = None,
) -> Finding:
    """The finding that several checks add up to; `consistent_if` is dropped where all of them hold."""
    all_checks = tuple(checks)
    outcome = worst(c.outcome for c in all_checks)
    failing = [c for c in all_checks if not c.holds]
    recomputed = "; ".join(f"{c.what}: {c.recomputed}" for c in failing or all_checks)
    return Finding(
        finding_id, source, claimed, recomputed, outcome, evidence, assumes,
        "" if outcome == CONSISTENT else consistent_if, all_checks, details or {},
    )  # fmt: skip


def number(x: float, digits: int = 3) -> str:
    """`x` to some digits; `undefined` where it is not finite, 0 where only rounding keeps it from that."""
    if not math.isfinite(x):
        return "undefined"
    return f"{0.0 if abs(x) < 1e-12 else x:.{digits}g}"


def span(low: float, high: float, digits: int = 3) -> str:
    """`[0.58, 0.586]`, or one number where both ends print alike."""
    ends = number(low, digits), number(high, digits)
    return ends[0] if ends[0] == ends[1] else f"[{ends[0]}, {ends[1]}]"
