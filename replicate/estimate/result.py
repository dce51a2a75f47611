"""What every estimator returns: a value with its interval, and what a reader must know about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval.

    An infinite end says that the data do not bound the value on that side. `value` is None where the data single out
    no number at all.
    """

    quantity: str
    unit: str
    value: float | None
    low: float
    high: float
    level: float
    n: int
    """How many independent observations (runs, seeds or cells, as `method` says) the estimate rests on."""
    method: str
    flags: tuple[str, ...] = ()
    """Short words: `edge-low`, `edge-high`, `plateau`, `diverged`, `one-seed`, `misfit`, …"""
    settle: str = ""
    """What more data would narrow the interval, in a few words; empty where nothing is known to."""
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise ValueError(
                f"{self.quantity}: expected an interval with low <= high, got ({self.low}, {self.high}); "
                "use -inf and inf for ends that the data leave open"
            )

    def to_json(self) -> dict[str, Any]:
        """JSON types; open ends become null."""
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            "value": None if self.value is None else finite(self.value),
            "low": finite(self.low),
            "high": finite(self.high),
            "level": self.level,
            "n": self.n,
            "method": self.method,
            "flags": list(self.flags),
            "settle": self.settle,
            "details": self.details,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Estimate:
        """Inverse of `to_json`."""
        low, high = data["low"], data["high"]
        return cls(
            **{
                **data,
                "low": -math.inf if low is None else low,
                "high": math.inf if high is None else high,
                "flags": tuple(data["flags"]),
            }
        )


def finite(x: float) -> float | None:
    """`x` as JSON has it: null where it is infinite or no number."""
    return float(x) if math.isfinite(x) else None


def unknown(quantity: str, unit: str, level: float, method: str, flags: tuple[str, ...], settle: str = "") -> Estimate:
    """The estimate that says nothing: the whole line, with the flags that say why."""
    return Estimate(quantity, unit, None, -math.inf, math.inf, level, 0, method, flags, settle)
