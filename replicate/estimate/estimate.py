"""What every estimator returns: a value with its interval, and what a reader must know about it."""

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

    An infinite end says that the data do not bound the value on that side. `value` is None where the data single out
    no number at all.
    """

    quantity: str
    unit: str
    value: float | None
    low: Low
    high: High
    level: float
    n: int
    """How many independent observations (runs, seeds or cells, as `method` says) the estimate rests on."""
    method: str
    flags: tuple[Flag, ...] = ()
    settle: str = ""
    """What more data would narrow the interval, in a few words; empty where nothing is known to."""
    details: AnyDetails | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise ValueError(
                f"{self.quantity}: expected an interval with low <= high, got ({self.low}, {self.high}); "
                "use -inf and inf for ends that the data leave open"
            )

    @property
    def closed(self) -> bool:
        """Whether both ends are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def to_json(self) -> dict[str, Any]:
        """JSON types; open ends become null."""
        return dict(strict.plain(self))


def finite(x: float) -> float | None:
    """`x` as JSON has it: null where it is infinite or no number."""
    return float(x) if math.isfinite(x) else None


def unknown(quantity: str, unit: str, level: float, method: str, flags: tuple[Flag, ...], settle: str = "") -> Estimate:
    """The estimate that says nothing: no value, and the whole line as its interval.

    Args:
        quantity: Name of the estimate.
        unit: As in `Estimate`: `pp`, or empty for a ratio.
        level: Level of the interval, 0 to 1.
        method: The method that could not be used.
        flags: Why it says nothing.
        settle: What would settle it; empty where nothing is known to.

    >>> unknown("slope", "", 0.95, "profile likelihood", ()).high
    inf
    """
    return Estimate(quantity, unit, None, -math.inf, math.inf, level, 0, method, flags, settle)
