"""Results of an estimate beside its value and interval, as written to verdict files: one class per kind of estimate.

The classes are msgspec structs, not dataclasses, because a file has to say which class it contains (`kind`).
"""

from __future__ import annotations

import msgspec

from replicate.store.strict import High, Low


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base class of details and of the rows of their tables; fields with their default value are left out of files."""


class Details(Row, frozen=True, tag_field="kind"):
    """Base class: the results of one kind of estimate beside its value and interval."""


class OptimumAt(Row, frozen=True):
    """The optimum of one learning rate with its interval."""

    lr: float
    wd: float | None
    """The likeliest weight decay; None if several are equally likely."""
    low: float | None
    """None here or in `high`: not bounded on that side."""
    high: float | None


class RatioAt(Row, frozen=True):
    """Best weight decay / learning rate at one learning rate, estimated from the runs at this learning rate alone."""

    lr: float
    value: float | None
    """None: the best weight decay is bounded on one side only."""
    low: float | None
    """Lower end of an interval that holds for all learning rates simultaneously; None: not bounded."""
    high: float | None
    likely: tuple[float | None, float | None] = (None, None)
    """50 % interval of the ratio; None: not bounded."""
    cell: str = ""
    """The cell to which the row belongs, if several cells are pooled."""

    @property
    def where(self) -> str:
        """The learning rate, and the cell if given: `lr 0.01`, `vit_s16-cifar100 at lr 0.01`."""
        return f"{self.cell} at lr {self.lr:g}" if self.cell else f"lr {self.lr:g}"


class Slope(Details, frozen=True, tag="slope"):
    per_lr: tuple[OptimumAt, ...]
    misfit_p: float | None
    """p value of the test that the optima lie on a line; None if fewer than three hold a line in place."""
    seed_curve_share: float | None
    """Share, 0 to 1, of a run's variance that is a smooth curve over weight decay, common to its seed's runs."""


class Interval(Row, frozen=True):
    low: Low
    high: High


class Ratio(Details, frozen=True, tag="ratio"):
    per_lr: tuple[OptimumAt, ...]
    ratios_together: tuple[RatioAt, ...]
    family: Interval | None = None
    """Interval that holds for all ten cells simultaneously, if the claim is that a cell rejects the ratio 0.10."""


class PooledRatio(Details, frozen=True, tag="pooled-ratio"):
    ratios: dict[str, float]
    """Cell → ratio, for cells whose ratio is bounded on both sides."""
    ratios_together: tuple[RatioAt, ...]


class RatioByArchitecture(Details, frozen=True, tag="ratio-by-architecture"):
    ratios: dict[str, float]
    """Architecture → ratio, for architectures whose ratio is bounded on both sides."""


class Value(Interval, frozen=True):
    value: float | None


class GrowthSide(Row, frozen=True):
    """How the accuracy lost grows with kappa's distance from 1 (the claimed weight decay), on one side and data set."""

    dataset: str
    near: float
    """`exponent` describes the growth from kappa `near` to kappa `far`, e.g. from 5 to 10."""
    far: float
    exponent: float
    gamma: float
    """Edge, as abs(ln kappa), of the zone around kappa = 1 in which accuracy does not drop."""
    gamma_interval: tuple[float, float]
    squared_gamma: Value
    """gamma of the paper's own formula, which has exponent 2; `squared_beta_pp` is the beta of that formula."""
    squared_beta_pp: Value


class Growth(Details, frozen=True, tag="growth"):
    sides: tuple[GrowthSide, ...]


class Terms(Details, frozen=True, tag="terms"):
    terms: dict[str, float]
    """Name → value, pp, of the quantities that are compared; the estimate is the smallest value."""
    smallest: str


class Asymmetry(Details, frozen=True, tag="asymmetry"):
    asymmetry_pp: float
    excess_over_the_other_pp: float


class Gaps(Details, frozen=True, tag="gaps"):
    gaps_pp: tuple[float, ...]
    """Accuracy lost by tuning only the learning rate: one gap per cell."""


class Measured(Value, frozen=True):
    """The mean gap or the standard deviation over seeds: the claim's estimate is their difference."""

    level: float
    n: int
    method: str


class GapAndSeedNoise(Details, frozen=True, tag="gap-and-seed-noise"):
    mean_gap_pp: Measured
    seed_sd_pp: Measured
    gaps_pp: tuple[float, ...]
    """Accuracy lost by tuning only the learning rate: one gap per cell."""
    seed_sd_by_the_paper: str
    """Outcome of the test whether the standard deviation over seeds lies in the paper's range."""


class RunCounts(Details, frozen=True, tag="run-counts"):
    runs_line: int
    runs_grid: int


AnyDetails = (
    Slope | Ratio | PooledRatio | RatioByArchitecture | Growth | Terms | Asymmetry | Gaps | GapAndSeedNoise | RunCounts
)
