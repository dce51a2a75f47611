"""Compares weight decays chosen in rounds with fixed lists of weight decays, on landscapes of known truth.

    nice python benchmarks/rounds.py --cells 4
    nice python benchmarks/rounds.py --cells 4 --invented --by-landscape

A cell is a sample of a landscape's seeds. Its lattice of weight decays, a factor 3 apart, is shifted at random for each
learning rate; a run's result is that of the recorded run with the nearest weight decay. `--invented`: instead of
trained landscapes, those shapes of `replicate.landscape.synthetic` that have an optimum, with the paper's noise and
CIFAR-100's number of test images. A way to choose weight decays is the rule of `replicate.runs.bracket` or a fixed list
of lattice points; both also run weight decay 0. For each way:

- enclosed: percentage of learning rates whose optimum (over all forty seeds) lies between two weight decays, or where
  decay does not significantly help and the runs show this;
- fallen: percentage where accuracy has significantly fallen on both sides, or the runs show a plateau down to 0;
- runs: number of weight decays, averaged over learning rates and seeds;
- right, wrong: percentage of right and wrong decisive verdicts on slope and ratio, with optima moved onto a law.

The fixed lists with 4 and 3 seeds cost about as much as the rule.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.calibration import trained_studies
from replicate.calibration.trained import LANDSCAPES
from replicate.calibration.trained_rates import where
from replicate.judging.sweep_verdicts import judge_sweep
from replicate.judging.verdict import CONTRADICTED, INCONCLUSIVE, REPLICATED
from replicate.landscape import synthetic
from replicate.landscape.landscape import Floats, Landscape
from replicate.paper.protocol import LRS, SGD_MOMENTUM
from replicate.paper.registry import CLAIMS
from replicate.runs.bracket import FACTOR, End, Place, Rounds, expand, look

NAMES = (
    *("mlp-digits-adamw", "mlp-digits-sgd", "mlp-fashion-16-adamw"),
    *("convnext_t-digits-adamw", "swin_t-digits-adamw"),
)
SHAPES = ("table-2", "quadratic", "quartic", "kinked", "asymmetric", "skewed", "cliff", "tent", "ridge")
INVENTED = tuple(f"invented {shape}" for shape in SHAPES)
BEST_PLACES = (-0.5, 3.0)
"""Range of invented optima, in lattice steps; trained optima lie from -0.4 to 2.7."""
INVENTED_TESTED = 10_000
LAWS = ("0.1 η", "constant", "1/η")
QUANTITIES = ("slope", "rho")
STEPS = 300
SEEDS = 5
CHANCE_PP = 10.0


@dataclass(frozen=True)
class Way:
    """How the weight decays of a learning rate are chosen: by the rule, or the lattice points of a fixed list."""

    label: str
    seeds: int = SEEDS
    fixed: tuple[int, ...] = ()


def between(low: int, high: int, seeds: int = SEEDS) -> Way:
    of = f"{seeds} seeds, " if seeds != SEEDS else ""
    return Way(f"{of}places {low} to {high}", seeds, tuple(range(low, high + 1)))


WAYS = (
    Way("rounds"),
    *(between(*ends) for ends in ((-2, 2), (-1, 3), (-1, 4), (-2, 4))),
    *(between(-1, 3, 4), between(-2, 4, 3)),
)


@dataclass(frozen=True)
class Rate:
    """One learning rate of a cell, with the results of all its runs."""

    lr: float
    x: Floats
    """[W], ln(weight decay · lr · steps); with momentum, divided by 1 - momentum."""
    scores: Floats
    """[W, S], scores of the cell's seeds, in the order in which they are used."""
    none: Floats
    """[S], scores without weight decay."""
    truth: trained_studies.Truth
    unit: float
    """Weight decay at x = 0."""
    phase: float

    def row(self, place: int) -> int:
        return int(np.abs(self.x - self.phase - place * math.log(FACTOR)).argmin())

    def score(self, place: Place, seed: int) -> float:
        found = self.none[seed] if place is None else self.scores[self.row(place), seed]
        return CHANCE_PP if math.isnan(found) else float(found)


def world(name: str, index: int) -> list[Rate]:
    """The `index`-th cell of a landscape; its random draws depend only on `name` and `index`."""
    rng = np.random.default_rng([index, *name.encode()])
    return invented(name.removeprefix("invented "), rng) if name in INVENTED else trained(name, rng)


def tested(name: str) -> int:
    """Number of test images."""
    return INVENTED_TESTED if name in INVENTED else LANDSCAPES[name].tested


def invented(shape: str, rng: np.random.Generator) -> list[Rate]:
    rule, made = Rounds(), synthetic.Truth(shape=shape)
    x: Floats = math.log(FACTOR) * np.arange(rule.lowest, rule.highest + 1, dtype=np.float64)
    found = []
    for lr in LRS:
        best, unit = math.log(FACTOR) * rng.uniform(*BEST_PLACES), 1 / (lr * STEPS)
        wds = [0.0, *np.exp(x - best) * made.best_wd(lr)]
        drawn = synthetic.draw(made, partial(_same, wds), rng, lrs=[lr], seeds=range(SEEDS))
        scores = drawn.frame["score"].to_numpy().reshape(len(wds), SEEDS)
        truth = trained_studies.Truth(best + math.log(unit), 0.0, gain_pp=5.0, gain_error=0.0)
        found.append(Rate(lr, x, scores[1:], scores[0], truth, unit, 0.0))
    return found


def _same(wds: Sequence[float], lr: float) -> Sequence[float]:
    """`wds` at every learning rate."""
    return wds


def trained(name: str, rng: np.random.Generator) -> list[Rate]:
    landscape, curves = LANDSCAPES[name], trained_studies.curves(name)
    seeds = rng.choice(curves[0].scores.shape[1], SEEDS, replace=False)
    found = []
    for curve, true in zip(curves, trained_studies.truths(name), strict=True):
        phase = rng.uniform(-0.5, 0.5) * math.log(FACTOR)
        if not true.known:
            continue
        unit = (1 - SGD_MOMENTUM if landscape.optimizer == "sgd" else 1.0) / (curve.lr * STEPS)
        idle = landscape.weight_decays(curve.lr)[1 : len(curve.idle)]
        x = np.log(np.concatenate([idle, curve.wds]) / unit)
        scores = np.concatenate([curve.idle[1:], curve.scores])[:, seeds]
        found.append(Rate(curve.lr, x, scores, curve.idle[0][seeds], true, unit, phase))
    return found


@dataclass(frozen=True)
class Chosen:
    """The runs that a way chose at a learning rate, and how the bracket ended on each side."""

    runs: tuple[tuple[Place, int], ...]
    low: End | None
    high: End | None

    @property
    def places(self) -> list[int]:
        return sorted({place for place, _ in self.runs if place is not None})


def choose(rate: Rate, way: Way, images: int) -> Chosen:
    seeds = range(way.seeds)
    if not way.fixed:
        bracket = expand(Rounds(), seeds, rate.score, images, CHANCE_PP)
        return Chosen(bracket.runs, bracket.low, bracket.high)
    runs = tuple((place, seed) for place in (None, *way.fixed) for seed in seeds)
    table = {place: [rate.score(place, seed) for seed in seeds] for place in (None, *way.fixed)}
    seen = look(Rounds((way.fixed[0],), way.fixed[0], way.fixed[-1]), table, images, CHANCE_PP)
    return Chosen(runs, seen.low, seen.high)


def enclosed(rate: Rate, found: Chosen) -> bool:
    x = [rate.x[rate.row(place)] for place in (found.places[0], found.places[-1])]
    place = rate.truth.place - math.log(rate.unit)
    return bool(x[0] < place < x[-1]) or (found.low is End.FLAT and not rate.truth.interior)


def verdicts(name: str, rates: Sequence[Rate], chosen: Sequence[Chosen], law: str) -> dict[str, tuple[bool, bool]]:
    """Quantity → (whether the verdict is right, whether it is wrong)."""
    rows = []
    for rate, found in zip(rates, chosen, strict=True):
        shift = trained_studies.LAWS[law](rate.lr) / math.exp(rate.truth.place)
        for place, seed in found.runs:
            wd = 0.0 if place is None else math.exp(rate.x[rate.row(place)]) * rate.unit * shift
            score = rate.none[seed] if place is None else rate.scores[rate.row(place), seed]
            rows.append((rate.lr, wd, seed, score, math.isnan(score)))
    frame = pd.DataFrame(rows, columns=["lr", "wd", "seed", "score", "diverged"]).drop_duplicates(["lr", "wd", "seed"])
    (judged,) = judge_sweep([Landscape(name, law, frame, chance_pp=CHANCE_PP)])
    out = {}
    for quantity in QUANTITIES:
        margin = next(claim.margin for claim in CLAIMS if claim.quantity == quantity)
        lrs = [rate.lr for rate in rates if rate.truth.interior]
        right = {"inside": REPLICATED, "outside": CONTRADICTED}.get(where(law, quantity, lrs, margin))
        said = judged.outcomes[quantity]
        out[quantity] = (said == right, said not in (right, INCONCLUSIVE))
    return out


def tried(task: tuple[str, int, bool]) -> list[dict[str, object]]:
    name, index, judging = task
    rates = world(name, index)
    rows: list[dict[str, object]] = []
    for way in WAYS:
        chosen = [choose(rate, way, tested(name)) for rate in rates]
        runs = [sum(place is not None for place, _ in found.runs) for found in chosen]
        row = {
            "way": way.label,
            "landscape": name,
            "runs": float(np.sum(runs)) / len(rates) / SEEDS,
            "enclosed": float(np.mean([enclosed(r, c) for r, c in zip(rates, chosen, strict=True)])),
            "fallen": float(np.mean([c.high is End.FALLEN and c.low in (End.FALLEN, End.FLAT) for c in chosen])),
        }
        for law in LAWS if judging else ():
            said = verdicts(name, rates, chosen, law)
            row |= {f"right, {q}, {law}": float(right) for q, (right, _) in said.items()}
            row |= {f"wrong, {q}, {law}": float(wrong) for q, (_, wrong) in said.items()}
        rows.append(row)
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cells", type=int, default=2, help="cells per landscape")
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--no-verdicts", action="store_true", help="skip the verdicts: takes seconds")
    arguments.add_argument("--by-landscape", action="store_true")
    arguments.add_argument("--invented", action="store_true")
    options = arguments.parse_args()
    names = INVENTED if options.invented else NAMES
    tasks = [(name, index, not options.no_verdicts) for index in range(options.cells) for name in names]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        rows = pd.DataFrame([row for found in pool.imap(tried, tasks) for row in found])
    groups = ["landscape", "way"] if options.by_landscape else ["way"]
    mean = rows.groupby(groups, sort=False).mean(numeric_only=True)
    print(f"| {' | '.join((*groups, 'runs', 'enclosed', 'fallen', 'right', 'wrong'))} |")
    print("|" + "---|" * (len(groups) + 5))
    for label, row in mean.iterrows():
        decided = [
            f"{100 * row[[c for c in row.index if c.startswith(kind)]].mean():.1f}" if not options.no_verdicts else "—"
            for kind in ("right", "wrong")
        ]
        cells = [f"{row['runs']:.2f}", f"{100 * row['enclosed']:.1f}", f"{100 * row['fallen']:.1f}", *decided]
        print(f"| {' | '.join([*(label if isinstance(label, tuple) else (label,)), *cells])} |")


if __name__ == "__main__":
    main()
