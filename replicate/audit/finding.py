"""A finding: what the paper says in one place, what follows when it is recomputed, and how far the two are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
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
    _: KW_ONLY
    holds: bool
    source: str = ""
    decides: bool = False
    """Whether a conclusion of the paper falls with it."""

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
    """That of the audit, which gives it to what it finds."""
    outcome: str
    evidence: str
    """One plain sentence with the numbers."""
    source: str
    """Where in the paper."""
    claimed: str
    """The paper's figures, as printed."""
    recomputed: str
    """The same figures recomputed, with the interval that rounding leaves."""
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
        return {**vars(self), "checks": [c.to_json() for c in self.checks], "details": dict(self.details)}


def worst(outcomes: Iterable[str]) -> str:
    """The most severe of some outcomes; `consistent` where there are none."""
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
    """What several checks add up to. `source`: the checks' own where empty; `consistent_if`: dropped where all hold."""
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
    """`9 of 10`."""
    return f"{sum(c.holds for c in checks)} of {len(checks)}"


def number(x: float, digits: int = 3) -> str:
    """`x` to some digits; `undefined` where it is not finite, 0 where only rounding keeps it from that."""
    if not math.isfinite(x):
        return "undefined"
    return f"{0.0 if abs(x) < 1e-12 else x:.{digits}g}"


def span(low: float, high: float, digits: int = 3) -> str:
    """`[0.58, 0.586]`, or one number where both ends print alike."""
    ends = number(low, digits), number(high, digits)
    return ends[0] if ends[0] == ends[1] else f"[{ends[0]}, {ends[1]}]"
