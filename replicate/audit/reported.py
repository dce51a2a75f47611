"""What a paper reports, as the audit reads it: printed figures, each with the interval of values that round to it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from replicate.audit.finding import Check, NotStated, span

Floats = NDArray[np.float64]
T = TypeVar("T")

_SLACK = 1e-9
"""Relative to a figure's last digit: makes ends that are equal in decimals compare as equal in floating point."""


@dataclass(frozen=True)
class Printed:
    """A number as printed. A decimal stands for all numbers that round to it, a fraction such as `1/6` for itself."""

    text: str

    @cached_property
    def value(self) -> float:
        return float(Fraction(self.text))

    @cached_property
    def half(self) -> float:
        """Half a unit of the last printed digit, the largest rounding error; 0 for a fraction."""
        if "/" in self.text:
            return 0.0
        exponent = Decimal(self.text).as_tuple().exponent
        return 0.5 * 10.0 ** int(exponent)

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half

    def meets(self, low: float, high: float | None = None) -> bool:
        """Whether some number that rounds to this one lies in [low, high], or is `low` if `high` is None."""
        high = low if high is None else high
        slack = _SLACK * (2 * self.half or abs(self.value) or 1.0)
        return low <= self.high + slack and high >= self.low - slack

    @classmethod
    def parse(cls, text: str) -> Printed:
        """The printed number `text`; raises ValueError if it is not a number."""
        text = text.strip()
        try:
            if "/" in text:
                Fraction(text)
            elif not Decimal(text).is_finite():
                raise ValueError
        except (InvalidOperation, ValueError, ZeroDivisionError):
            raise ValueError(f"expected a number as printed, such as 0.10 or 1/6, got {text!r}") from None
        return cls(text)


@dataclass(frozen=True)
class Measured:
    """A printed value and, where the paper gives one, its interval."""

    value: Printed
    low: Printed | None = None
    high: Printed | None = None

    @property
    def interval(self) -> tuple[Printed, Printed]:
        """The interval; raises NotStated if there is none."""
        if self.low is None or self.high is None:
            raise NotStated(f"an interval for the figure {self.value.text}")
        return self.low, self.high

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None

    @property
    def half_width(self) -> tuple[float, float]:
        """Smallest (at least 0) and largest half width compatible with the rounding of this interval."""
        low, high = self.interval
        middle = (high.value - low.value) / 2
        slack = (high.half + low.half) / 2
        return max(middle - slack, 0.0), middle + slack

    @property
    def text(self) -> str:
        if self.low is None or self.high is None:
            return self.value.text
        return f"{self.value.text} ({self.low.text}, {self.high.text})"


@dataclass(frozen=True)
class RatioRow:
    """One row of the table of ratios (best weight decay over learning rate): one architecture on one data set."""

    arch: str
    dataset: str
    rho: Measured
    _: KW_ONLY
    p: Printed | None = None
    """p-value of the hypothesis that the ratio is the claimed one."""
    slope: Measured | None = None
    """Slope of ln(best weight decay) on ln(learning rate)."""
    r2: Printed | None = None
    source: str = "table 1"

    @property
    def cell(self) -> str:
        return f"{self.arch}-{self.dataset}"


@dataclass(frozen=True)
class DropRow:
    """One entry of the table of accuracy drops: what kappa times the claimed weight decay loses on one data set."""

    kappa: float
    dataset: str
    drop: Measured
    """In percentage points."""
    _: KW_ONLY
    p: Printed | None = None
    p_below: bool = False
    """Whether the paper states p as below the printed number."""
    source: str = "table 2"

    @property
    def name(self) -> str:
        return f"kappa {self.kappa:g} on {self.dataset}"


@dataclass(frozen=True)
class StatedFigure:
    """A figure in the text; the names are those of `replicate.paper.tables.STATED`."""

    name: str
    measured: Measured
    source: str = "text"

    @property
    def value(self) -> Printed:
        return self.measured.value

    def check(
        self, what: str, low: float, high: float | None = None, *, recomputed: str = "", decides: bool = False
    ) -> Check:
        """Compares this figure with [low, high], or with `low` alone: agrees if a number in that range rounds to it.

        `what` names the comparison, `recomputed` is the text for the range, `decides` is as in `Check`.
        """
        recomputed, holds = recomputed or span(low, low if high is None else high), self.value.meets(low, high)
        return Check(what, self.value.text, recomputed, holds=holds, source=self.source, decides=decides)


@dataclass(frozen=True)
class Learner:
    """An architecture, as far as the audit needs it."""

    name: str
    convolutional: bool


@dataclass(frozen=True)
class Campaign:
    """All runs on one data set, with what they are said to have cost."""

    dataset: str
    _: KW_ONLY
    runs: int
    epochs: int
    warmup_epochs: int
    train_images: int
    batch_size: int
    image_size: int
    hours: Printed
    """Device-hours of all runs together."""


@dataclass(frozen=True)
class Experiment:
    """Runs outside the grid on which a statement rests."""

    what: str
    runs: int
    source: str


@dataclass(frozen=True)
class Work:
    """A reference: author and year as cited, and the venue's year if the reference list names a venue."""

    author: str
    year: int
    venue_year: int | None = None


@dataclass(frozen=True)
class Bibliography:
    """The works that the text cites and those that the reference list contains."""

    cited: tuple[Work, ...]
    listed: tuple[Work, ...]


@dataclass(frozen=True)
class Point:
    """One point on which two descriptions of the same thing can agree: text and script, or text and text."""

    topic: str
    said: str
    found: str
    source: str
    _: KW_ONLY
    agrees: bool
    decides: bool = False


@dataclass(frozen=True)
class Recipe:
    """A training recipe published by others."""

    name: str
    lr: float
    weight_decay: float
    source: str


@dataclass(frozen=True)
class Reported:
    """A paper under audit. Only grid and table of ratios are required; an audit that lacks data raises NotStated."""

    name: str
    grid: tuple[tuple[float, tuple[float, ...]], ...]
    """Learning rate → weight decays, both ascending."""
    ratios: tuple[RatioRow, ...]
    drops: tuple[DropRow, ...] = ()
    figures: tuple[StatedFigure, ...] = ()
    learners: tuple[Learner, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    bibliography: Bibliography | None = None
    script: tuple[Point, ...] = ()
    contradictions: tuple[Point, ...] = ()
    """Pairs of statements about the same thing."""
    cited_work: tuple[Point, ...] = ()
    """What cited work is said to show, and what it shows."""
    recipes: tuple[Recipe, ...] = ()
    sectioned: bool = False
    """Whether the findings' section numbers, which refer to this project's paper, apply to this one."""

    @property
    def lrs(self) -> Floats:
        return np.array([lr for lr, _ in self.grid])

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.dataset for row in self.ratios))

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.arch for row in self.ratios))

    @property
    def kappas(self) -> tuple[float, ...]:
        """The multiples of the claimed weight decay in the table of drops, ascending, without 1."""
        return tuple(sorted({row.kappa for row in self.drops} - {1.0}))

    @property
    def rho(self) -> float:
        """The claimed ratio; if the text states none, the median of the table's ratios."""
        if self.states("rho"):
            return self.figure("rho").measured.value.value
        return float(np.median([row.rho.value.value for row in self.ratios]))

    def drops_on(self, dataset: str) -> dict[float, DropRow]:
        """The drops on one data set by kappa; raises NotStated if there are none."""
        found = {row.kappa: row for row in self.drops if row.dataset == dataset}
        if not found:
            raise NotStated(f"accuracy drops on {dataset}")
        return found

    def figure(self, name: str) -> StatedFigure:
        """The figure of the text called `name`; raises NotStated if there is none."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise NotStated(f"the figure {name}")

    def states(self, name: str) -> bool:
        return any(figure.name == name for figure in self.figures)

    def value(self, name: str) -> float:
        """The value of the figure called `name`; raises NotStated if there is none."""
        return self.figure(name).measured.value.value


def need(present: T | None, what: str) -> T:
    """Returns `present`; raises NotStated with `what` if it is None or empty."""
    if not present:
        raise NotStated(what)
    return present
