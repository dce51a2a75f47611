"""Tables 1 and 2 and every figure in the paper's text and its published scripts, as frozen data.

Every figure has its unit and its place in the paper. `Stated.printed`, `TABLE_1_DECIMALS` and `TABLE_2_DECIMALS` tell
with how many digits it is printed, since a check of the paper's arithmetic has to allow for rounding. Architectures and
data sets have the names of `replicate.paper.protocol`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from replicate.paper.cells import Cell
from replicate.paper.claim import Figure


@dataclass(frozen=True)
class RatioRow:
    """One row of Table 1: the ratio of the best weight decay to the learning rate in one cell."""

    number: int
    """Row, counted from 1."""
    cell: Cell
    rho: Figure
    p_value: float
    """p of the test that the ratio is 0.10."""
    slope: Figure
    r2: float

    @property
    def source(self) -> str:
        return f"Table 1, row {self.number}"


@dataclass(frozen=True)
class DeviationRow:
    """One row of Table 2: mean accuracy drop at kappa times the claimed best weight decay."""

    number: int
    kappa: float
    cifar100: Figure
    imagenet: Figure
    p_bound: float
    """The p-value as printed: 0.002 at kappa 0.5, elsewhere the bound 0.001."""
    p_direction: str
    """`equal`, or `below` if `p_bound` is a bound."""

    @property
    def source(self) -> str:
        return f"Table 2, row {self.number}"

    def drop(self, dataset: str) -> Figure:
        """The drop on `dataset`, `cifar100` or `imagenet`, in percentage points."""
        return {"cifar100": self.cifar100, "imagenet": self.imagenet}[dataset]


@dataclass(frozen=True)
class Stated:
    """A figure in the text of the paper."""

    name: str
    figure: Figure
    direction: str
    """`equal`, `about`, `below` (a claimed upper bound), `above` (a claimed lower bound) or `between` (a range)."""
    printed: str
    """The figure as printed: `0.10` is 0.10 to two decimals."""


_Triple = tuple[float, float, float]
"""Value, lower and upper end."""


def _ratio_row(
    number: int, arch: str, dataset: str, rho: _Triple, p_value: float, slope: _Triple, r2: float
) -> RatioRow:
    source = f"Table 1, row {number}"
    return RatioRow(number, Cell(arch, dataset), Figure(*rho, "", source), p_value, Figure(*slope, "", source), r2)


TABLE_1: tuple[RatioRow, ...] = (
    _ratio_row(1, "resnet50", "cifar100", (0.098, 0.081, 0.115), 0.82, (1.02, 0.91, 1.13), 0.97),
    _ratio_row(2, "resnet50", "imagenet", (0.103, 0.085, 0.121), 0.71, (0.98, 0.87, 1.09), 0.96),
    _ratio_row(3, "vit_s16", "cifar100", (0.105, 0.087, 0.123), 0.58, (1.04, 0.92, 1.16), 0.95),
    _ratio_row(4, "vit_s16", "imagenet", (0.112, 0.093, 0.131), 0.18, (1.01, 0.89, 1.13), 0.96),
    _ratio_row(5, "convnext_t", "cifar100", (0.094, 0.078, 0.110), 0.47, (0.97, 0.86, 1.08), 0.97),
    _ratio_row(6, "convnext_t", "imagenet", (0.101, 0.083, 0.119), 0.91, (1.03, 0.91, 1.15), 0.95),
    _ratio_row(7, "mixer_s16", "cifar100", (0.108, 0.089, 0.127), 0.38, (1.06, 0.93, 1.19), 0.94),
    _ratio_row(8, "mixer_s16", "imagenet", (0.096, 0.079, 0.113), 0.64, (0.95, 0.84, 1.06), 0.96),
    _ratio_row(9, "swin_t", "cifar100", (0.102, 0.084, 0.120), 0.83, (1.01, 0.89, 1.13), 0.96),
    _ratio_row(10, "swin_t", "imagenet", (0.107, 0.088, 0.126), 0.44, (1.03, 0.90, 1.16), 0.95),
)
"""Ratio with its 95 % bootstrap interval, p for ratio = 0.10, log-log slope with its 95 % interval, R squared."""

TABLE_1_DECIMALS = {"rho": 3, "p_value": 2, "slope": 2, "r2": 2}
TABLE_2_DECIMALS = 1
"""Digits after the decimal point in the printed table."""


def _deviation_row(
    number: int, kappa: float, cifar100: _Triple, imagenet: _Triple, p_bound: float = 0.001, p_direction: str = "below"
) -> DeviationRow:
    drops = [Figure(*drop, "pp", f"Table 2, row {number}") for drop in (cifar100, imagenet)]
    return DeviationRow(number, kappa, drops[0], drops[1], p_bound, p_direction)


TABLE_2: tuple[DeviationRow, ...] = (
    _deviation_row(1, 0.1, (3.4, 2.8, 4.0), (3.8, 3.1, 4.5)),
    _deviation_row(2, 0.2, (2.1, 1.6, 2.6), (2.5, 1.9, 3.1)),
    _deviation_row(3, 0.5, (0.6, 0.3, 0.9), (0.8, 0.4, 1.2), 0.002, "equal"),
    _deviation_row(5, 2.0, (0.7, 0.4, 1.0), (1.2, 0.7, 1.7)),
    _deviation_row(6, 5.0, (2.3, 1.7, 2.9), (3.1, 2.4, 3.8)),
    _deviation_row(7, 10.0, (3.1, 2.4, 3.8), (3.6, 2.8, 4.4)),
)
"""Drop in test accuracy against kappa = 1 (row 4, the reference), averaged over the five architectures."""


def _stated(
    name: str, printed: str, unit: str, source: str, direction: str = "equal", ci: tuple[str, str] | None = None
) -> Stated:
    low, high = (float(ci[0]), float(ci[1])) if ci else (None, None)
    return Stated(name, Figure(float(Fraction(printed)), low, high, unit, source), direction, printed)


def _range(name: str, low: str, high: str, unit: str, source: str) -> Stated:
    """A range for which the paper gives no central value: its middle serves as the value."""
    middle = float((Fraction(low) + Fraction(high)) / 2)
    return Stated(name, Figure(middle, float(low), float(high), unit, source), "between", f"{low}-{high}")


STATED: tuple[Stated, ...] = (
    # Numbers of runs, and what they are made up of.
    _stated("runs/title", "1200", "runs", "title"),
    _stated("runs/abstract", "1200", "runs", "abstract"),
    _stated("runs/introduction", "1200", "runs", "section 1"),
    _stated("runs/per-dataset", "1200", "runs", "section 3.1"),
    _stated("runs/total", "2400", "runs", "section 3.1"),
    _stated("count/architectures", "5", "", "abstract, section 3.1"),
    _stated("count/weight-decays", "8", "", "abstract, section 3.1"),
    _stated("count/learning-rates", "6", "", "abstract, section 3.1"),
    _stated("count/seeds", "5", "", "abstract, section 3.1"),
    _stated("count/cnns", "3", "", "section 4.4"),
    _stated("count/bootstrap-draws", "10000", "", "section 3.2"),
    # The ratio and its tests.
    _stated("rho", "0.10", "", "abstract", ci=("0.08", "0.12")),
    _stated("rho/alpha", "0.05", "", "section 4.1"),
    _stated("intercept/p", "0.3", "", "section 4.1", "above"),
    _stated("anova/f", "0.72", "", "section 4.1"),
    _stated("anova/p", "0.58", "", "section 4.1"),
    _stated("anova/df-between", "4", "", "section 4.1"),
    _stated("anova/df-within", "45", "", "section 4.1"),
    _stated("anova/df-between/methods", "4", "", "section 3.6"),
    _stated("anova/df-within/methods", "20", "", "section 3.6"),
    # What a wrong ratio costs.
    _range("deviation/factor-2", "1.2", "3.8", "pp", "abstract"),
    _range("deviation/zone", "0.5", "2.0", "", "section 4.2"),
    _stated("deviation/zone-drop", "1.2", "pp", "section 4.2", "below"),
    _stated("deviation/beyond-zone-drop", "2", "pp", "section 4.2", "above"),
    _stated("deviation/growth-exponent", "2", "", "section 4.2", "about"),
    _stated("deviation/factor-2/script", "1", "pp", "published script, expected outputs", "about"),
    # Tuning along the claimed line alone.
    _stated("one-dim/gap", "0.3", "pp", "section 4.3", "below"),
    _stated("one-dim/gap/abstract", "0.3", "pp", "abstract", "below"),
    _stated("one-dim/mean-gap", "0.18", "pp", "section 4.3", ci=("0.09", "0.27")),
    _stated("one-dim/max-gap", "0.34", "pp", "section 4.3"),
    _range("one-dim/seed-sd", "0.25", "0.40", "pp", "section 4.3"),
    # What tuning along the line saves.
    _stated("cost/line-runs", "30", "runs", "section 3.4"),
    _stated("cost/grid-runs", "240", "runs", "section 3.4"),
    _stated("cost/grid-points", "48", "points", "section 3.4"),
    _stated("cost/reduction", "87.5", "%", "section 3.4"),
    _stated("cost/pruned-grid-runs", "150", "runs", "section 3.4"),
    _stated("cost/pruned-factor", "5", "times", "section 3.4"),
    _stated("cost/factor", "8", "times", "section 4.3"),
    _stated("cost/typical-grid-runs", "90", "runs", "section 4.3"),
    _stated("cost/typical-factor", "3", "times", "section 4.3"),
    _stated("cost/share/abstract", "1/6", "", "abstract"),
    _stated("cost/factor/introduction", "6", "times", "section 1"),
    _stated("cost/share/conclusion", "1/6", "", "section 7"),
    _stated("cost/example-grid-runs", "25", "runs", "section 1"),
    _stated("cost/example-grid-runs-with-seeds", "125", "runs", "section 1"),
    # Robustness.
    _range("robust/batch", "0.09", "0.11", "", "section 4.4"),
    _stated("robust/schedule/cosine", "0.10", "", "section 4.4"),
    _stated("robust/schedule/step", "0.11", "", "section 4.4"),
    _stated("robust/schedule/linear", "0.09", "", "section 4.4"),
    _stated("robust/long/before", "0.10", "", "section 4.4"),
    _stated("robust/long", "0.09", "", "section 4.4"),
    _stated("sgd/rho", "0.005", "", "section 4.4", ci=("0.003", "0.007")),
    # The comparison with a published recipe.
    _stated("recipe/learning-rate", "1e-3", "", "section 5"),
    _stated("recipe/weight-decay", "0.05", "", "section 5"),
    _stated("recipe/ratio", "50", "", "section 5"),
    _stated("recipe/claimed-weight-decay", "1e-4", "", "section 5"),
    _stated("recipe/claimed-shrinkage", "1e-7", "per step", "section 5"),
    _stated("recipe/shrinkage", "5e-5", "per step", "section 5"),
    _stated("recipe/shrinkage-factor", "500", "times", "section 5"),
    # Compute.
    _stated("compute/cifar100", "600", "A100-hours", "published script, hardware requirements", "about"),
    _stated("compute/imagenet", "4800", "A100-hours", "published script, hardware requirements", "about"),
    _stated("compute/analysis", "1", "CPU-hours", "published script, hardware requirements", "below"),
)

_STATED_BY_NAME = {s.name: s for s in STATED}


def stated(name: str) -> Stated:
    """The figure of the text called `name`; raises KeyError if there is none."""
    if name not in _STATED_BY_NAME:
        raise KeyError(
            f"no number stated in the paper's text is called {name!r}; replicate.paper.tables.STATED lists them"
        )
    return _STATED_BY_NAME[name]
