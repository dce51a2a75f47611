"""What estimates say beside value and interval, as written to verdict files: one class per kind of estimate.

They are msgspec structs rather than dataclasses because the file has to say which class it contains (`kind`).
"""

from __future__ import annotations

import msgspec

from replicate.store.strict import High, Low


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of a table inside details; fields with their default value are left out of files."""


class Details(Row, frozen=True, tag_field="kind"):
    """Base class: what one kind of estimate says beside value and interval."""


class OptimumAt(Row, frozen=True):
    """The optimum of one learning rate with its interval."""

    lr: float
    wd: float | None
    """The likeliest weight decay; None if no single one is."""
    low: float | None
    """None: not bounded."""
    high: float | None


class RatioAt(Row, frozen=True):
    """Best weight decay over learning rate at one learning rate, estimated without the others."""

    lr: float
    value: float | None
    low: float | None
    """Lower end of an interval that holds for all learning rates simultaneously; None: not bounded."""
    high: float | None
    likely: tuple[float | None, float | None] = (None, None)
    """Its 50 % interval."""
    cell: str = ""
    """The cell of the row, if several are pooled."""

    @property
    def where(self) -> str:
        """The learning rate, and the cell if given: `lr 0.01`, `vit_s16-cifar100 at lr 0.01`."""
        return f"{self.cell} at lr {self.lr:g}" if self.cell else f"lr {self.lr:g}"


class Slope(Details, frozen=True, tag="slope"):
    per_lr: tuple[OptimumAt, ...]
    misfit_p: float | None
    """p of the best line against free optima; None with fewer than three optima bounded on both sides."""
    seed_curve_share: float | None
    """See `seed_curves.Shared.share`."""


class Interval(Row, frozen=True):
    low: Low
    high: High


class Ratio(Details, frozen=True, tag="ratio"):
    per_lr: tuple[OptimumAt, ...]
    ratios_together: tuple[RatioAt, ...]
    family: Interval | None = None
    """The interval at a level that holds for all ten cells simultaneously, if the claim is about a rejection."""


class PooledRatio(Details, frozen=True, tag="pooled-ratio"):
    ratios: dict[str, float]
    """Ratio by cell, of cells whose ratio is bounded on both sides."""
    ratios_together: tuple[RatioAt, ...]


class RatioByArchitecture(Details, frozen=True, tag="ratio-by-architecture"):
    ratios: dict[str, float]
    """Ratio by architecture, of those whose ratio is bounded on both sides."""


class Value(Interval, frozen=True):
    value: float | None


class GrowthSide(Row, frozen=True):
    """How drops grow on one side of kappa = 1 on one data set."""

    dataset: str
    near: float
    """The exponent is that of the growth from kappa `near` to `far`, e.g. 5 to 10."""
    far: float
    exponent: float
    gamma: float
    """Edge of the zone without loss, as abs(ln kappa)."""
    gamma_interval: tuple[float, float]
    squared_gamma: Value
    """gamma, and below beta, of the paper's own form, with exponent 2."""
    squared_beta_pp: Value


class Growth(Details, frozen=True, tag="growth"):
    sides: tuple[GrowthSide, ...]


class Terms(Details, frozen=True, tag="terms"):
    terms: dict[str, float]
    """Value of each quantity whose minimum is the estimate, pp."""
    smallest: str


class Asymmetry(Details, frozen=True, tag="asymmetry"):
    asymmetry_pp: float
    excess_over_the_other_pp: float


class Gaps(Details, frozen=True, tag="gaps"):
    gaps_pp: tuple[float, ...]
    """One per cell."""


class Measured(Value, frozen=True):
    """One of the two estimates that another is computed from."""

    level: float
    n: int
    method: str


class GapAndSeedNoise(Details, frozen=True, tag="gap-and-seed-noise"):
    mean_gap_pp: Measured
    seed_sd_pp: Measured
    gaps_pp: tuple[float, ...]
    """One per cell."""
    seed_sd_by_the_paper: str
    """Outcome of comparing the standard deviation over seeds with the paper's range."""


class RunCounts(Details, frozen=True, tag="run-counts"):
    runs_line: int
    runs_grid: int


AnyDetails = (
    Slope | Ratio | PooledRatio | RatioByArchitecture | Growth | Terms | Asymmetry | Gaps | GapAndSeedNoise | RunCounts
)
