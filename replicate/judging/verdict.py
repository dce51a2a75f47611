"""The answer to a claim: its outcome with the reason, what it rests on, and what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from replicate.estimate.estimate import Estimate
from replicate.estimate.flags import Flag
from replicate.estimate.power_law import Rivals
from replicate.estimate.published import Published
from replicate.paper.claim import Claim, Margin
from replicate.text import Word


class Outcome(Word):
    """What a verdict comes to. In files it is its text."""

    REPLICATED = "replicated"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


OUTCOMES = tuple(Outcome)
REPLICATED, CONTRADICTED, INCONCLUSIVE, NOT_RUN = OUTCOMES


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on."""

    scale: str
    probe: bool
    """True unless the runs are the paper's own protocol on the paper's own cells."""
    cells: tuple[str, ...] = ()
    """What was really trained, e.g. `resnet50 on digits`."""
    runs: int = 0
    runs_missing: int = 0
    seeds: int = 0
    synthetic: bool = False
    note: str = ""
    """What else a reader must know, e.g. `not the published CIFAR-100`."""
    look: str = ""
    """Which look of `--until settled` it is of; empty where a claim is judged once."""

    @property
    def missing_text(self) -> str:
        """How many of the runs that the claim needs are not in the store."""
        return f"{self.runs_missing} of its {self.runs + self.runs_missing} runs are not in the store"

    @property
    def label(self) -> str:
        """One phrase for tables: the scale and what kind of evidence it is."""
        kind = "synthetic" if self.synthetic else "probe" if self.probe else "paper protocol"
        text = f"{self.scale} ({kind}: {self.note})" if self.note else f"{self.scale} ({kind})"
        return f"{text}, {self.look}" if self.look else text


@dataclass(frozen=True)
class IndistinguishableAt:
    """The weight decays of one learning rate that cannot be told from its best."""

    lr: float
    wds: tuple[float, ...]
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Anova:
    """One-way analysis of variance of argmax / lr over architectures."""

    f: float | None
    p: float
    df: tuple[int, int]


@dataclass(frozen=True)
class PapersFigure:
    """The paper's figure beside our interval."""

    value: float
    in_our_interval: bool


@dataclass(frozen=True)
class Prediction:
    """Where our value is expected if the paper measured the same."""

    low: float
    high: float
    holds_our_value: bool


@dataclass(frozen=True)
class StrictBand:
    """Where the interval lies by a narrower band than the margin."""

    low: float
    high: float
    outcome: Outcome


@dataclass(frozen=True)
class Secondary:
    """Criteria beside a verdict, above all the paper's own method; they never decide. None: there is no such."""

    published: Published | None = None
    plug_in_gap_pp: float | None = None
    """The paper's method for the gap."""
    cross_fitted_gap_pp: float | None = None
    anova: Anova | None = None
    indistinguishable: tuple[IndistinguishableAt, ...] = ()
    rivals: Rivals | None = None
    papers_figure: PapersFigure | None = None
    prediction: Prediction | None = None
    direction: str = ""
    """Whether the effect points the claimed way."""
    strict_band: StrictBand | None = None
    disagreement: str = ""
    """Where the paper's method would give another verdict."""


class Altered(Word):
    """What is otherwise when a verdict is tried again. In files it is its text."""

    SEED = "seed"
    """Left out."""
    LR = "lr"
    """Left out."""
    WDS = "every-second-wd"
    """Left out."""
    BEST_EPOCH = "best-epoch"
    """Accuracy at the best epoch in place of the last one's."""
    LEVEL = "level"
    """Another level for the interval."""


@dataclass(frozen=True)
class Trial:
    """What a verdict becomes where one thing is otherwise."""

    altered: Altered
    which: str
    """The seed, the learning rate, the half of the weight decays, or the level; empty where there is one such only."""
    outcome: Outcome


@dataclass(frozen=True)
class HowSure:
    """A decisive verdict, tried again."""

    trials: tuple[Trial, ...]

    def changed(self, outcome: Outcome) -> tuple[Trial, ...]:
        """The trials that came to anything but `outcome`."""
        return tuple(trial for trial in self.trials if trial.outcome != outcome)


@dataclass(frozen=True)
class Provisional:
    """What a claim comes to by the seeds that are there in each of its cells: to be known early, not to be counted."""

    outcome: Outcome
    reason: str
    estimate: Estimate | None
    runs: int
    seeds: int
    """In the cell that has the fewest."""


@dataclass(frozen=True)
class Verdict:
    """The answer to one claim."""

    claim_id: str
    outcome: Outcome
    reason: str
    margin: Margin
    evidence: Evidence
    estimate: Estimate | None = None
    settle: str = ""
    """What would settle an inconclusive or not-run claim."""
    secondary: Secondary = field(default_factory=Secondary)
    how_sure: HowSure | None = None
    """None where it was not asked, or the verdict is not decisive."""
    provisional: Provisional | None = None
    """With `not run`, where enough seeds of each cell are there."""

    @property
    def survives(self) -> bool | None:
        """Whether the outcome is the same whatever was left out or altered; None where that was not tried."""
        return None if self.how_sure is None else not self.how_sure.changed(self.outcome)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            known = ", ".join(OUTCOMES)
            raise ValueError(f"{self.claim_id}: expected an outcome of {known}, got {self.outcome!r}")
        if not self.reason:
            raise ValueError(f"{self.claim_id}: expected a reason, got none")


def not_run(claim: Claim, reason: str, evidence: Evidence, settle: str = "") -> Verdict:
    """The verdict of a claim whose runs are not there."""
    return Verdict(claim.id, NOT_RUN, reason, claim.margin, evidence, None, settle)
