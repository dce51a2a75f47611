"""What every estimator returns: a value with its interval, and flags that qualify it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from replicate.estimate.details import AnyDetails
from replicate.estimate.flags import Flag
from replicate.store import strict
from replicate.store.strict import High, Low


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval.

    An infinite end means that the data do not bound the value on that side. `value` is None if the data determine no
    number. Raises ValueError if the ends are NaN or in the wrong order.
    """

    quantity: str
    unit: str
    value: float | None
    low: Low
    high: High
    level: float
    n: int
    """Number of independent observations (runs, seeds or cells, depending on `method`) used for the estimate."""
    method: str
    flags: tuple[Flag, ...] = ()
    settle: str = ""
    """Which further data would narrow the interval, in a few words; empty if unknown."""
    details: AnyDetails | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise ValueError(
                f"{self.quantity}: expected an interval with low <= high, got ({self.low}, {self.high}); "
                "use -inf and inf for ends that are not bounded"
            )

    @property
    def closed(self) -> bool:
        """Whether the interval is bounded on both sides."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def to_json(self) -> dict[str, Any]:
        """The estimate as JSON types; infinite ends become null."""
        return dict(strict.plain(self))


def finite(x: float) -> float | None:
    """`x` for JSON: None (null) if it is infinite or NaN."""
    return float(x) if math.isfinite(x) else None


def unknown(quantity: str, unit: str, level: float, method: str, flags: tuple[Flag, ...], settle: str = "") -> Estimate:
    """An estimate without a value whose interval is the whole real line.

    Args:
        quantity: Name of the estimate.
        unit: `pp` (percentage points), or empty for a number without unit.
        level: Level of the interval, 0 to 1.
        method: The method that could not be used.
        flags: Why there is no value.
        settle: Which further data would give a value; empty if unknown.

    >>> unknown("slope", "", 0.95, "profile likelihood", ()).high
    inf
    """
    return Estimate(quantity, unit, None, -math.inf, math.inf, level, 0, method, flags, settle)
