"""How often the decision rules err on claims about several cells (models on data sets), by simulating all ten."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from replicate.calibration.parallel import chunks, in_processes
from replicate.calibration.rates import Progress, errs, place
from replicate.judging.claim_verdicts import judge
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, REPLICATED, Evidence
from replicate.landscape.landscape import Landscape
from replicate.landscape.synthetic import Truth, bracket_grid, draw, paper_grid, ratio_grid
from replicate.paper.cells import Cell
from replicate.paper.claim import Claim
from replicate.paper.protocol import KAPPAS, LRS, RHO, RHO_SGD, WEIGHT_DECAYS
from replicate.paper.registry import CELLS, CLAIMS, SGD_CELLS

SEED_COUNTS = (3, 5, 10)

Key = tuple[Cell, str]

RATIOS = ("rho_pooled", "rho_rejects", "max_ratio", "rho_sgd", "sgd_ratio")
DROPS = ("drop_pp", "hurts_pp", "zone_pp", "growth_exponent", "asymmetry_pp")
QUANTITIES = (*RATIOS, *DROPS, "mean_gap_pp", "max_gap_pp", "gap_minus_seed_sd_pp")
"""Quantities that are estimated from several cells, or by comparing runs of one landscape with each other."""

CLAIMS_JUDGED = tuple(
    c for c in CLAIMS if c.quantity in QUANTITIES and {p.variant for p in c.parts} <= {"main", "sgd"}
)  # the robustness checks are left out: their quantity is a ratio like `rho`


_ARCHS = tuple(dict.fromkeys(c.arch for c in CELLS))


@dataclass(frozen=True)
class Experiment:
    """A simulated experiment: for every cell, the parameters from which its landscape is drawn."""

    name: str
    truth: Truth = field(default_factory=Truth)
    """Parameters of every cell under AdamW, except for those below."""
    ratios: tuple[float, ...] = (0.1, 0.1, 0.1, 0.1, 0.1)
    """True best weight decay / learning rate under AdamW of each architecture, in the paper's order."""
    sgd_ratio: float = RHO_SGD / RHO
    """True ratio under SGD / true ratio under AdamW."""
    imagenet_shape: str = ""
    """Shape of the accuracy curve (a key of `synthetic.SHAPES`) on ImageNet; empty: the same as on other data."""
    breaks: tuple[float, float] = (0.0, 1.0)
    """(η, factor): at η, the first architecture's best weight decay under AdamW is multiplied by `factor`."""

    def of(self, cell: Cell, variant: str) -> Truth:
        """The parameters of one cell's landscape under one optimiser; `variant`: `main` (AdamW) or `sgd`."""
        index = _ARCHS.index(cell.arch)
        truth = replace(self.truth, rho=self.ratios[index] * (self.sgd_ratio if variant == "sgd" else 1.0))
        if self.imagenet_shape and cell.dataset == "imagenet":
            truth = replace(truth, shape=self.imagenet_shape)
        if index == 0 and variant != "sgd":
            truth = replace(truth, off_lr=self.breaks[0], off_times=self.breaks[1])
        return truth


EXPERIMENTS = (
    Experiment("the ratio is 0.10 everywhere"),
    Experiment("the ratio differs between architectures", ratios=(0.03, 0.06, 0.1, 0.2, 0.4)),
    Experiment("the ratio is 0.35, SGD's the same", ratios=(0.35,) * 5, sgd_ratio=1.0),
    Experiment("too much costs more than too little", Truth(shape="asymmetric")),
    Experiment("drops twice Table 2's", Truth(depth=2.0)),
    Experiment("weight decay does not matter", Truth(depth=0.0)),
    Experiment("too much costs more than too little, on ImageNet alone", Truth(), imagenet_shape="asymmetric"),
    Experiment("the ratio is 0.195: a gap of 0.2 pp", Truth(lr_drop_pp=0.0), ratios=(0.195,) * 5),
    Experiment("costs grow as the square past a factor 2", Truth(shape="tolerance")),
    Experiment("costs grow as the square", Truth(shape="quadratic")),
    Experiment("the law of one architecture breaks at one learning rate", breaks=(1e-3, 0.2)),
)

GROWTH = {"quadratic": 2.0, "asymmetric": 2.0, "tolerance": 2.0, "kinked": 1.0, "quartic": 4.0}
"""Shape → exponent, if accuracy falls as a power of the distance, in ln, from the best weight decay (`tolerance`: from
the edge of a zone around it in which nothing is lost)."""


_LINE = {(lr, ratio_grid(lr)[KAPPAS.index(1.0)]) for lr in LRS}
_POINTS = {
    "ratio": {(lr, wd) for lr in LRS for wd in ratio_grid(lr)},
    "line": {(lr, wd) for lr in LRS for wd in paper_grid(lr)} | _LINE,
}


def landscapes(
    experiment: Experiment, seeds: int, index: int, *, noise: bool = True
) -> dict[str, dict[Key, Landscape]]:
    """The `index`-th simulated outcome: for each set of grids that claims use, the landscape of every cell and variant.

    Without `noise`, scores are the expected accuracies.
    """
    out: dict[str, dict[Key, Landscape]] = {"optimum": {}, "ratio": {}, "line": {}}
    for number, (cell, variant) in enumerate([*((c, "main") for c in CELLS), *((c, "sgd") for c in SGD_CELLS)]):
        truth = experiment.of(cell, variant)
        if not noise:
            truth = replace(truth, noise_sd_pp=0.0, seed_sd_pp=0.0)
        rng = np.random.default_rng([index, seeds, number])
        whole = draw(truth, _grid(truth), rng, seeds=range(seeds), arch=cell.arch, dataset=cell.dataset)
        out["optimum"][cell, variant] = whole
        for name, points in _POINTS.items():
            wanted = [at in points for at in zip(whole.frame["lr"], whole.frame["wd"], strict=True)]
            out[name][cell, variant] = replace(whole, frame=whole.frame[wanted].reset_index(drop=True))
    return out


def _grid(truth: Truth) -> Callable[[float], Sequence[float]]:
    bracket = bracket_grid(truth)
    return lambda lr: sorted({*paper_grid(lr), *ratio_grid(lr), *bracket(lr)})


def grids_of(claim: Claim) -> str:
    """The set of grids (a key of what `landscapes` returns) on which the claim is judged."""
    grids = {part.grid for part in claim.parts}
    return "ratio" if grids == {"ratio"} else "line" if "unit" in grids else "optimum"


@lru_cache(maxsize=64)
def _expected(experiment: Experiment) -> dict[str, dict[Key, Landscape]]:
    return landscapes(experiment, 2, 0, noise=False)


@lru_cache(maxsize=4096)
def true_value(experiment: Experiment, claim: Claim) -> float:
    """True value of the claim's quantity; NaN if none exists, as for the ratio of flat landscapes.

    Computed in closed form from the truths of the cells; a gap, however, from the expected accuracies. Raises
    ValueError for a quantity that is not in `QUANTITIES`.
    """
    ratios = {cell: experiment.of(cell, "main").rho for cell in claim.cells}
    if claim.quantity in RATIOS and not experiment.truth.depth:
        return math.nan
    if claim.quantity in ("rho_pooled", "rho_rejects"):
        return math.exp(sum(math.log(r) for r in _own_ratios(experiment, claim)) / (len(ratios) * len(LRS)))
    if claim.quantity == "max_ratio":
        return max(ratios.values()) / min(ratios.values())
    if claim.quantity == "rho_sgd":
        return experiment.of(claim.cells[0], "sgd").rho
    if claim.quantity == "sgd_ratio":
        return experiment.sgd_ratio
    if claim.quantity in _OF_DROPS:
        return round(_OF_DROPS[claim.quantity](experiment, claim), 9)
    gaps = [_gap(experiment, cell) for cell in claim.cells]
    if claim.quantity == "mean_gap_pp":
        return sum(gaps) / len(gaps)
    if claim.quantity == "max_gap_pp":
        return max(gaps)
    if claim.quantity == "gap_minus_seed_sd_pp":
        return sum(gaps) / len(gaps) - math.hypot(experiment.truth.noise_sd_pp, experiment.truth.seed_sd_pp)
    raise ValueError(f"{claim.id}: expected a quantity of {QUANTITIES}, got {claim.quantity}")


def _own_ratios(experiment: Experiment, claim: Claim) -> list[float]:
    """True best weight decay / learning rate, for every cell of `claim` and every learning rate."""
    return [experiment.of(cell, "main").best_wd(lr) / lr for cell in claim.cells for lr in LRS]


def _drop(experiment: Experiment, cells: Sequence[Cell], kappa: float) -> float:
    """Expected accuracy lost, pp, at `kappa` times the claimed weight decay: mean over `cells` and learning rates."""
    truths = [experiment.of(cell, "main") for cell in cells]
    lost = [-np.diff(truth.accuracy(lr, [RHO * lr, kappa * RHO * lr])) for truth in truths for lr in LRS]
    return float(np.mean(lost))


def _by_dataset(claim: Claim) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in claim.cells:
        found.setdefault(cell.dataset, []).append(cell)
    return found


def _least_slack(experiment: Experiment, claim: Claim) -> float:
    slack = []
    for cells in _by_dataset(claim).values():
        for kappa in KAPPAS:
            if kappa != 1:
                lost = _drop(experiment, cells, kappa)
                slack.append(1.2 - lost if 0.5 <= kappa <= 2 else lost - 2.0)
    return min(slack)


def _asymmetry(experiment: Experiment, claim: Claim) -> float:
    """ImageNet's asymmetry, pp, or its excess over CIFAR-100's absolute asymmetry if that is smaller.

    Asymmetry: the accuracy lost with too large a weight decay minus that with one too small by the same factor.
    """
    of = {
        dataset: sum(_drop(experiment, cells, k) - _drop(experiment, cells, 1 / k) for k in (2.0, 5.0, 10.0)) / 3
        for dataset, cells in _by_dataset(claim).items()
    }
    return min(of["imagenet"], of["imagenet"] - abs(of["cifar100"]))


def _growth(experiment: Experiment, claim: Claim) -> float:
    """True exponent with which the accuracy lost grows (see `GROWTH`); NaN if the claim's cells have no common one."""
    shapes = {experiment.of(cell, "main").shape for cell in claim.cells}
    centred = all(math.isclose(ratio, RHO) for ratio in _own_ratios(experiment, claim))
    exponents = {GROWTH.get(shape, math.nan) for shape in shapes}
    return exponents.pop() if centred and experiment.truth.depth and len(exponents) == 1 else math.nan


def growth_between(experiment: Experiment, claim: Claim) -> tuple[float, float]:
    """Smallest and largest exponent with which the accuracy lost grows from kappa 5 to 10 and from 1/5 to 1/10.

    The exponent depends on the zone without loss, which may end anywhere from a factor 1 (no zone) to a factor 2.
    Averaged over sides and data sets; NaN if nothing is lost at some of these kappas.
    """
    found = []
    for cells in _by_dataset(claim).values():
        for near, far in ((5.0, 10.0), (0.2, 0.1)):
            lost = _drop(experiment, cells, near), _drop(experiment, cells, far)
            if min(lost) <= 0:
                return math.nan, math.nan
            steps = [math.log((math.log(10) - edge) / (math.log(5) - edge)) for edge in (math.log(2), 0.0)]
            found.append([math.log(lost[1] / lost[0]) / step for step in steps])
    low, high = np.sort(np.mean(found, axis=0))
    return float(low), float(high)


_OF_DROPS: dict[str, Callable[[Experiment, Claim], float]] = {
    "drop_pp": lambda experiment, claim: _drop(experiment, claim.cells, dict(claim.arguments)["kappa"]),
    "hurts_pp": lambda experiment, claim: min(_drop(experiment, claim.cells, kappa) for kappa in (0.1, 10.0)),
    "zone_pp": _least_slack,
    "asymmetry_pp": _asymmetry,
    "growth_exponent": _growth,
}


def _gap(experiment: Experiment, cell: Cell) -> float:
    """Largest expected accuracy on the paper's grid minus the largest on the line weight decay = 0.1 * lr, pp."""
    frame = _expected(experiment)["line"][cell, "main"].frame
    on_grid = frame["wd"].isin(WEIGHT_DECAYS)
    on_line = [at in _LINE for at in zip(frame["lr"], frame["wd"], strict=True)]
    return float(frame.loc[on_grid, "score"].max() - frame.loc[on_line, "score"].max())


@dataclass(frozen=True)
class FamilyRate:
    """Verdict rates (shares, 0 to 1) of the claims of one quantity over all outcomes of one experiment."""

    experiment: str
    seeds: int
    quantity: str
    claims: int
    outcomes: int
    """Number of simulated outcomes of the experiment."""
    replicated: float
    contradicted: float
    inconclusive: float
    wrong: float
    """Share of verdicts that are decisive and wrong; if no true value exists, every decisive verdict is wrong."""
    any_wrong: float
    """Share of outcomes with a wrong verdict on at least one of the claims."""
    coverage: float | None
    """Share of intervals that contain the true value; None if none exists."""
    all_covered: float | None
    """Share of outcomes in which the intervals of all claims contain the true value; None if none exists."""


Verdicts = list[tuple[str, bool, bool | None]]
"""(outcome, whether wrong, whether the truth is covered) for each claim of one quantity: see `_one`."""


def rates(
    experiments: Sequence[Experiment],
    seed_counts: Sequence[int],
    n: int,
    processes: int,
    report: Progress | None = None,
    kept: Path | None = None,
) -> list[FamilyRate]:
    """Verdict rates over `n` outcomes of every experiment and seed count, judged in `processes` processes.

    `report(done, all)` is called after each experiment and seed count. Results are cached in the folder `kept`.
    """
    asked = [(experiment, seeds) for experiment in experiments for seeds in seed_counts]
    parts = chunks(n)
    answers = in_processes(
        _judged, [(*one, *part) for one in asked for part in parts], processes, kept, kind=list[dict[str, Verdicts]]
    )
    out: list[FamilyRate] = []
    for done, (experiment, seeds) in enumerate(asked, start=1):
        outcomes = [outcome for _ in parts for outcome in next(answers)]
        for quantity in outcomes[0]:
            out.append(_summary(experiment, seeds, quantity, [outcome[quantity] for outcome in outcomes]))
        if report is not None:
            report(done, len(asked))
    return out


def _judged(task: tuple[Experiment, int, int, int]) -> list[dict[str, Verdicts]]:
    """Verdicts by quantity for each outcome with an index in [start, stop)."""
    experiment, seeds, start, stop = task
    out = []
    for index in range(start, stop):
        made = landscapes(experiment, seeds, index)
        of_quantity: dict[str, Verdicts] = {}
        for claim in CLAIMS_JUDGED:
            of_quantity.setdefault(claim.quantity, []).append(_one(experiment, claim, made[grids_of(claim)], seeds))
        out.append(of_quantity)
    return out


def _one(
    experiment: Experiment, claim: Claim, found: Mapping[Key, Landscape], seeds: int
) -> tuple[str, bool, bool | None]:
    """Outcome, whether it is wrong, and whether the interval contains the true value (None if none exists)."""
    verdict = judge(claim, found, Evidence("synthetic", probe=True, seeds=seeds, synthetic=True))
    truth = true_value(experiment, claim)
    stands = _place(experiment, claim, truth)
    if not stands:
        return verdict.outcome, verdict.outcome in (REPLICATED, CONTRADICTED), None
    if math.isnan(truth) or not _is_one_number(experiment, claim):
        return verdict.outcome, errs(verdict.outcome, stands), None
    assert verdict.estimate is not None
    held = verdict.estimate.low <= truth + 1e-9 and truth - 1e-9 <= verdict.estimate.high
    return verdict.outcome, errs(verdict.outcome, stands), held


def _is_one_number(experiment: Experiment, claim: Claim) -> bool:
    """Whether the claim has one true value: false for a ratio that differs between learning rates."""
    cells = [experiment.of(cell, "main") for cell in claim.cells]
    return claim.quantity not in RATIOS or claim.quantity == "rho_sgd" or all(truth.off_times == 1 for truth in cells)


def _place(experiment: Experiment, claim: Claim, truth: float) -> str:
    """Where the truth lies relative to the margin (see `rates.place`); empty if no true value exists.

    For `rho_rejects`, rejecting 0.10 is right whenever the true ratio differs from it. If the true ratio differs
    between learning rates, its average describes no law: the truth then counts as outside.
    """
    if claim.quantity == "growth_exponent" and math.isnan(truth) and experiment.truth.depth:
        ends = {place(claim.quantity, end, claim.margin) for end in growth_between(experiment, claim)}
        return ends.pop() if len(ends) == 1 else "near"
    if math.isnan(truth):
        return ""
    if not _is_one_number(experiment, claim):
        return "outside"
    found = place(claim.quantity, truth, claim.margin)
    return "near" if claim.quantity == "rho_rejects" and found == "inside" and not math.isclose(truth, RHO) else found


def _summary(experiment: Experiment, seeds: int, quantity: str, found: Sequence[Verdicts]) -> FamilyRate:
    flat = [one for verdicts in found for one in verdicts]
    share = {o: sum(one[0] == o for one in flat) / len(flat) for o in (REPLICATED, CONTRADICTED, INCONCLUSIVE)}
    held = [one[2] for one in flat if one[2] is not None]
    all_held = [all(one[2] for one in verdicts) for verdicts in found if all(one[2] is not None for one in verdicts)]
    return FamilyRate(
        experiment.name,
        seeds,
        quantity,
        claims=len(found[0]),
        outcomes=len(found),
        **share,
        wrong=sum(one[1] for one in flat) / len(flat),
        any_wrong=sum(any(one[1] for one in verdicts) for verdicts in found) / len(found),
        coverage=sum(held) / len(held) if held else None,
        all_covered=sum(all_held) / len(all_held) if all_held else None,
    )
