"""What estimates say beside value and interval: one class a kind of estimate, as it stands in verdict files.

They are msgspec's structs and not dataclasses because a file has to say which of them it holds: `kind`.
"""

from __future__ import annotations

import msgspec

from replicate.store.strict import High, Low


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of a table inside details; what has its default is left out of files."""


class Details(Row, frozen=True, tag_field="kind"):
    """What one kind of estimate says beside value and interval."""


class OptimumAt(Row, frozen=True):
    """The set-valued optimum of one learning rate."""

    lr: float
    wd: float | None
    """The likeliest weight decay; None where no single one is."""
    low: float | None
    """None: open."""
    high: float | None


class RatioAt(Row, frozen=True):
    """Best weight decay over learning rate at one learning rate, whatever the others say."""

    lr: float
    value: float | None
    low: float | None
    """Lower end of an interval that holds for all learning rates together; None: open."""
    high: float | None
    likely: tuple[float | None, float | None] = (None, None)
    """Where it is as likely as not to lie."""
    cell: str = ""
    """The cell that the row belongs to, where several are pooled."""

    @property
    def where(self) -> str:
        """`lr 0.01`, or `vit_s16-cifar100 at lr 0.01`."""
        return f"{self.cell} at lr {self.lr:g}" if self.cell else f"lr {self.lr:g}"


class Slope(Details, frozen=True, tag="slope"):
    per_lr: tuple[OptimumAt, ...]
    misfit_p: float | None
    """p of the best line against free optima; None with fewer than three closed ones."""
    seed_curve_share: float | None


class Interval(Row, frozen=True):
    low: Low
    high: High


class Ratio(Details, frozen=True, tag="ratio"):
    per_lr: tuple[OptimumAt, ...]
    ratios_together: tuple[RatioAt, ...]
    family: Interval | None = None
    """The interval at the level that holds for all ten cells together, where the claim is about a rejection."""


class PooledRatio(Details, frozen=True, tag="pooled-ratio"):
    ratios: dict[str, float]
    """By cell; those whose ratio is closed."""
    ratios_together: tuple[RatioAt, ...]


class RatioByArchitecture(Details, frozen=True, tag="ratio-by-architecture"):
    ratios: dict[str, float]
    """By architecture; those whose ratio is closed."""


class Value(Interval, frozen=True):
    value: float | None


class GrowthSide(Row, frozen=True):
    """How drops grow on one side of kappa = 1 on one data set."""

    dataset: str
    near: float
    """The kappas between which they grow, e.g. 5 and 10."""
    far: float
    exponent: float
    gamma: float
    """Edge of the zone without loss, as ln kappa."""
    gamma_interval: tuple[float, float]
    squared_gamma: Value
    """gamma and beta of the paper's own form, the square."""
    squared_beta_pp: Value


class Growth(Details, frozen=True, tag="growth"):
    sides: tuple[GrowthSide, ...]


class Terms(Details, frozen=True, tag="terms"):
    terms: dict[str, float]
    """Value of each quantity of which the smallest counts, pp."""
    smallest: str


class Asymmetry(Details, frozen=True, tag="asymmetry"):
    asymmetry_pp: float
    excess_over_the_other_pp: float


class Gaps(Details, frozen=True, tag="gaps"):
    gaps_pp: tuple[float, ...]
    """One a cell."""


class Measured(Value, frozen=True):
    """One of two estimates that a third is made from."""

    level: float
    n: int
    method: str


class GapAndSeedNoise(Details, frozen=True, tag="gap-and-seed-noise"):
    mean_gap_pp: Measured
    seed_sd_pp: Measured
    gaps_pp: tuple[float, ...]
    """One a cell."""
    seed_sd_by_the_paper: str
    """Where the standard deviation over seeds lies by the paper's range of it: an outcome."""


class RunCounts(Details, frozen=True, tag="run-counts"):
    runs_line: int
    runs_grid: int


AnyDetails = (
    Slope | Ratio | PooledRatio | RatioByArchitecture | Growth | Terms | Asymmetry | Gaps | GapAndSeedNoise | RunCounts
)
