"""A verdict on a claim: its outcome with the reason, its evidence, and secondary results."""

from __future__ import annotations

from dataclasses import dataclass, field

from replicate.estimate.estimate import Estimate
from replicate.estimate.flags import Flag
from replicate.estimate.power_law import Rivals
from replicate.estimate.published import Published
from replicate.paper.claim import Claim, Margin
from replicate.text import Word


class Outcome(Word):
    """The outcome of a verdict; files contain the value."""

    REPLICATED = "replicated"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


OUTCOMES = tuple(Outcome)
REPLICATED, CONTRADICTED, INCONCLUSIVE, NOT_RUN = OUTCOMES


@dataclass(frozen=True)
class Evidence:
    """The runs on which a verdict rests."""

    scale: str
    probe: bool
    """False if the runs follow the paper's own protocol on the paper's own cells, else True."""
    cells: tuple[str, ...] = ()
    """The models and data that were actually trained, e.g. `resnet50 on digits`."""
    runs: int = 0
    runs_missing: int = 0
    seeds: int = 0
    synthetic: bool = False
    note: str = ""
    """A caveat for readers, e.g. `not the published CIFAR-100`."""
    look: str = ""
    """Which look (interim analysis) of `--until settled` was judged; empty if the claim is judged only once."""

    @property
    def missing_text(self) -> str:
        """How many of the runs that the claim needs are not in the store."""
        return f"{self.runs_missing} of its {self.runs + self.runs_missing} runs are not in the store"

    @property
    def label(self) -> str:
        """A phrase for tables: the scale and the kind of evidence."""
        kind = "synthetic" if self.synthetic else "probe" if self.probe else "paper protocol"
        text = f"{self.scale} ({kind}: {self.note})" if self.note else f"{self.scale} ({kind})"
        return f"{text}, {self.look}" if self.look else text


@dataclass(frozen=True)
class IndistinguishableAt:
    """The weight decays at one learning rate whose scores do not differ detectably from the best one's."""

    lr: float
    wds: tuple[float, ...]
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Anova:
    """One-way analysis of variance, over architectures, of the best run's weight decay / learning rate."""

    f: float | None
    p: float
    df: tuple[int, int]


@dataclass(frozen=True)
class PapersFigure:
    """The number that the paper reports, and whether our interval contains it."""

    value: float
    in_our_interval: bool


@dataclass(frozen=True)
class Prediction:
    """Prediction interval for our value if the paper measured the same quantity."""

    low: float
    high: float
    holds_our_value: bool


@dataclass(frozen=True)
class StrictBand:
    """The outcome under a margin narrower than the claim's."""

    low: float
    high: float
    outcome: Outcome


@dataclass(frozen=True)
class Secondary:
    """Results beside a verdict that never change it, such as those of the paper's own method; None: no result."""

    published: Published | None = None
    plug_in_gap_pp: float | None = None
    """Accuracy lost by tuning only the learning rate, by the paper's method."""
    cross_fitted_gap_pp: float | None = None
    anova: Anova | None = None
    indistinguishable: tuple[IndistinguishableAt, ...] = ()
    rivals: Rivals | None = None
    papers_figure: PapersFigure | None = None
    prediction: Prediction | None = None
    direction: str = ""
    """Whether the effect has the claimed direction, in words."""
    strict_band: StrictBand | None = None
    disagreement: str = ""
    """What the paper's method would say, if its verdict differs."""


class Altered(Word):
    """The respect in which a verdict's data or level is altered; files contain the value."""

    SEED = "seed"
    """Without one seed."""
    LR = "lr"
    """Without one learning rate."""
    WDS = "every-second-wd"
    """Without every second weight decay."""
    BEST_EPOCH = "best-epoch"
    """Accuracy at the best epoch instead of the last."""
    LEVEL = "level"
    """Another level of the interval."""


@dataclass(frozen=True)
class Trial:
    """The outcome of a verdict under one alteration."""

    altered: Altered
    which: str
    """The seed, learning rate or half of the weight decays left out, or the level; empty for `best-epoch`."""
    outcome: Outcome


@dataclass(frozen=True)
class HowSure:
    """The robustness of a decisive verdict: its outcomes under alterations."""

    trials: tuple[Trial, ...]

    def changed(self, outcome: Outcome) -> tuple[Trial, ...]:
        """The trials whose outcome differs from `outcome`."""
        return tuple(trial for trial in self.trials if trial.outcome != outcome)


@dataclass(frozen=True)
class Provisional:
    """An early verdict from the seeds whose runs are complete in each of a claim's cells; not counted as a verdict."""

    outcome: Outcome
    reason: str
    estimate: Estimate | None
    runs: int
    seeds: int
    """Number of complete seeds, in the cell with the fewest complete seeds."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim; raises ValueError for an unknown outcome or an empty reason."""

    claim_id: str
    outcome: Outcome
    reason: str
    margin: Margin
    evidence: Evidence
    estimate: Estimate | None = None
    settle: str = ""
    """Which further data would settle a claim that is inconclusive or not run."""
    secondary: Secondary = field(default_factory=Secondary)
    how_sure: HowSure | None = None
    """How robust the verdict is; None if not asked for, or if it is neither replicated nor contradicted."""
    provisional: Provisional | None = None
    """An early verdict, only with outcome `not run`, and only if enough seeds of each cell are complete."""

    @property
    def survives(self) -> bool | None:
        """Whether the outcome is the same under all alterations; None if they were not tried."""
        return None if self.how_sure is None else not self.how_sure.changed(self.outcome)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            known = ", ".join(OUTCOMES)
            raise ValueError(f"{self.claim_id}: expected an outcome of {known}, got {self.outcome!r}")
        if not self.reason:
            raise ValueError(f"{self.claim_id}: expected a reason, got none")


def not_run(claim: Claim, reason: str, evidence: Evidence, settle: str = "") -> Verdict:
    """The verdict on a claim whose runs are missing."""
    return Verdict(claim.id, NOT_RUN, reason, claim.margin, evidence, None, settle)
